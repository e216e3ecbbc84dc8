/* Makes views for another process, so that a machine without Python, or an emulated one, can be compared with this one.
 *
 * Reads jobs from standard input: JOB_NUMBERS of int64, then what they announce. Answers an int64, the outcome, and,
 * where there are views, their bytes. benchmarks/native_equality.py --through speaks to it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "processors.h"
#include "views.h"

enum { IMAGE_BYTES, WIDTH, HEIGHT, PARAMS, SIZE, BICUBIC, RED, GREEN, BLUE, ERASE_MODE, NOISE_BYTES, OUT_BYTES, JOB_NUMBERS };

static void *received(int64_t bytes) {
    void *memory = malloc((size_t)bytes + 1);
    if (memory == NULL || fread(memory, 1, (size_t)bytes, stdin) != (size_t)bytes) {
        exit(1);
    }
    return memory;
}

static void answer(int64_t outcome, const void *bytes, size_t count) {
    fwrite(&outcome, sizeof outcome, 1, stdout);
    fwrite(bytes, 1, count, stdout);
    fflush(stdout);
}

/* Without room for views: what the header says, as width, height and whether it is doubtful. */
static void answer_header(const uint8_t *data, int64_t bytes) {
    Header header = {0};
    int usual = views_header(data, (size_t)bytes, &header);
    const int64_t found[] = {header.width, header.height, header.doubtful};
    answer(usual, found, usual ? sizeof found : 0);
}

static void answer_views(const int64_t *job, const uint8_t *data, const double *params, const uint8_t *noise, uint8_t *views) {
    const Image image = {data, (size_t)job[IMAGE_BYTES], (int)job[WIDTH], (int)job[HEIGHT]};
    const Params numbers = {params, (size_t)job[PARAMS]};
    const Style style = {
        .size = (int)job[SIZE],
        .bicubic = (int)job[BICUBIC],
        .fill = {(uint8_t)job[RED], (uint8_t)job[GREEN], (uint8_t)job[BLUE]},
        .erase_mode = (EraseMode)job[ERASE_MODE],
        .noise = noise,
        .noise_length = (size_t)job[NOISE_BYTES] / 3,
    };
    const Out out = {views, (size_t)job[OUT_BYTES]};
    Outcome outcome = views_render(&image, &numbers, &style, processor_named(""), &out);
    answer(outcome, views, outcome == VIEWS_MADE ? out.bytes : 0);
}

int main(void) {
    int64_t job[JOB_NUMBERS];
    while (fread(job, sizeof *job, JOB_NUMBERS, stdin) == JOB_NUMBERS) {
        uint8_t *data = received(job[IMAGE_BYTES]);
        if (job[OUT_BYTES] == 0) {
            answer_header(data, job[IMAGE_BYTES]);
            free(data);
            continue;
        }
        double *params = received(job[PARAMS] * (int64_t)sizeof(double));
        uint8_t *noise = received(job[NOISE_BYTES]), *views = malloc((size_t)job[OUT_BYTES]);
        answer_views(job, data, params, noise, views);
        free(data);
        free(params);
        free(noise);
        free(views);
    }
    return 0;
}
