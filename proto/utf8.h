/* protobuf-c does not look into strings; Ferry does, before anybody prints or stores them. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "base/err.h"

/* Well-formed UTF-8 (no surrogates, no over-long forms) without control characters, except tab and
 * newline. */
bool utf8_valid(const char *text);

/* Puts a '?' in the place of every byte that keeps the text from being valid: for sentences that
 * were cut somewhere, or hold what somebody else wrote. */
void utf8_clean(char *text);

/* All strings of a message and of the messages in it; an error names the field. Nor may a field
 * have the number 0, which protobuf-c reads in a longer form but would not read again. */
int utf8_check_message(const ProtobufCMessage *message, struct err *err);
