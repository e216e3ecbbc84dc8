/* The pixel code for any processor. */
#define RENDER_VIEW render_view_baseline
#include "kernels/all.h"
