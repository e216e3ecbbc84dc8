/* Mixup: out = own * weight + partner * (1 - weight), rounded; weight in 1/65536. out may be own. */

enum { WHOLE = 1 << 16, MIXED_AT_ONCE = 512 };

static void mix_levels(const uint8_t *own, const uint8_t *partner, size_t count, int weight, uint8_t *out) {
    /* Through a local block, because compilers vectorise only if memory cannot overlap. */
    uint8_t block[MIXED_AT_ONCE];
    for (size_t start = 0; start < count; start += MIXED_AT_ONCE) {
        size_t part = count - start < MIXED_AT_ONCE ? count - start : MIXED_AT_ONCE;
        for (size_t i = 0; i < part; i++) {
            int base = partner[start + i];
            block[i] = (uint8_t)((base * WHOLE + (own[start + i] - base) * weight + WHOLE / 2) >> 16);
        }
        memcpy(out + start, block, part);
    }
}
