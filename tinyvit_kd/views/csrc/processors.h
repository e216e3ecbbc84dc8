/* The instruction sets that this build knows and this machine has. */
#ifndef VIEWS_PROCESSORS_H
#define VIEWS_PROCESSORS_H

#include "view.h"

/* The best one where no name is given; NULL where this machine does not have it. */
const Processor *processor_named(const char *name);

#endif
