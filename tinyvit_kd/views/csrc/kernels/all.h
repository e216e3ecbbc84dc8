/* All pixel code, compiled once for each instruction set: RENDER_VIEW names the one function that is seen outside.
 *
 * Nothing here may be contracted or reordered (-ffp-contract=off): the bytes are those of Pillow 13.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../view.h"

#include "vectors.h"

#include "resize.h"

#include "levels.h"

#include "blend.h"

#include "filters.h"

#include "affine.h"

#include "render.h"
