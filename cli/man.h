/* vmctl(1) in the man(7) language, from the table of commands and the prose that is in no table. */
#pragma once

#include <stdio.h>

void man_print(FILE *out);
