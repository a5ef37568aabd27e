/* The names that each of several clones finds its own things by. */
#pragma once

/* A copy of `text`, owned by the caller, in which the first "{}" is the clone's number; as it is
 * for number 0, the only one. NULL without memory. */
char *clone_name(const char *text, unsigned number);
