/* What an answer means: refusals in words, and where redirects may lead; see store.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/utf8.h"
#include "snapshot/store.h"

#define HOPS_MAX 5u

static const char *in_words(long status)
{
    switch (status) {
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
        return ": it wants to be asked elsewhere, which the region or endpoint decides";
    case 401:
        return ": it wants credentials (~/.netrc)";
    case 403:
        return ": these credentials may not";
    case 404:
        return ": there is no such object or bucket";
    case 405:
        return ": it takes no uploads there";
    case 411:
    case 501:
        return ": it wants to know the length beforehand, so export to a file and upload that";
    case 412:
        return ": the object changed meanwhile";
    case 413:
    case 507:
        return ": that is too much for it";
    default:
        return "";
    }
}

int store_answer_refuse(const struct store_answer *a, const char *what, struct err *err)
{
    char code[80] = "", message[200] = "";
    if (a->broken)
        return err_set(err, a->failed.code, "%s: %s", what, a->failed.text);
    if (a->body.len) {
        store_xml_find(a->body.data, a->body.len, "Code", code, sizeof(code));
        store_xml_find(a->body.data, a->body.len, "Message", message, sizeof(message));
    }
    int number = a->status == 404 ? ENOENT : a->status == 401 || a->status == 403 ? EACCES : EIO;
    err_set(err, number, "%s: the store answers %ld%s%s%s%s", what, a->status, *code ? " " : "",
            code,
            *message ? ": "
            : *code  ? ""
                     : in_words(a->status),
            message);
    utf8_clean(err->text);
    return -err->code;
}

int store_redirect(const struct store_answer *a, const char *from, unsigned *hops,
                   char to[STORE_URL_MAX], struct err *err)
{
    if (!a->redirect[0])
        return err_set(err, EIO, "the store answers %ld and does not say where to go", a->status);
    if (++*hops > HOPS_MAX)
        return err_set(err, ELOOP, "the store redirects more than %u times", HOPS_MAX);
    bool https = strncasecmp(a->redirect, "https://", 8) == 0;
    if (!https && strncasecmp(from, "https://", 8) == 0)
        return err_set(err, EPERM, "the store redirects from https to something less");
    if (!https && strncasecmp(a->redirect, "http://", 7) != 0)
        return err_set(err, EPERM, "the store redirects to what is neither https:// nor http://");
    snprintf(to, STORE_URL_MAX, "%s", a->redirect);
    return 0;
}
