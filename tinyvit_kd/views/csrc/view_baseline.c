/* The pixel code for any processor. */
#define PROCESSOR PROCESSOR_BASELINE
#define PROCESSOR_NAME "baseline"
#include "kernels/all.h"
