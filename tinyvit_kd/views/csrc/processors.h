/* The instruction sets that this build supports and this machine has. */
#ifndef VIEWS_PROCESSORS_H
#define VIEWS_PROCESSORS_H

#include "view.h"

/* Returns the best one if the name is empty; NULL if this machine does not have it. */
const Processor *processor_named(const char *name);

#endif
