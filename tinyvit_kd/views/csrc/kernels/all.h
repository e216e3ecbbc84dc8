/* All pixel code, compiled once for each instruction set; only PROCESSOR is visible outside.
 *
 * No arithmetic may be contracted or reordered (-ffp-contract=off), because the bytes must be those of Pillow 13.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../view.h"

#ifdef VIEWS_X86
#include <immintrin.h>
#endif

#include "vectors.h"

#include "resize.h"

#include "levels.h"

#include "blend.h"

#include "filters.h"

#include "affine.h"

#include "render.h"

#include "mix.h"

#include "huffman.h"

#include "idct.h"

#include "idct_pair.h"

#include "blocks.h"

#include "upsample.h"

#include "baseline.h"

const Processor PROCESSOR = {PROCESSOR_NAME, render_view, decode_baseline, open_baseline, mix_levels};
