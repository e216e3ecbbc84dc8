/* Pillow's blends: base + factor * (level - base) in float32, clipped to 0..255 and truncated. */

static inline uint8_t blended(int base, int level, float factor) {
    float value = (float)base + factor * (float)(level - base);
    value = value < 0.0f ? 0.0f : value;
    value = value > 255.0f ? 255.0f : value;
    return (uint8_t)(int)value;
}

static inline int grey(int red, int green, int blue) {
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
}

static void blend_with_level(uint8_t *levels, size_t count, int base, float factor) {
    for (size_t i = 0; i < count; i++) {
        levels[i] = blended(base, levels[i], factor);
    }
}

static void contrast(uint8_t *planes, size_t count, float factor) {
    const uint8_t *red = planes, *green = planes + count, *blue = planes + 2 * count;
    uint64_t sum = 0;
    for (size_t start = 0; start < count; start += 1 << 20) {
        size_t end = count - start > 1 << 20 ? start + (1 << 20) : count;
        uint32_t part = 0;
        for (size_t i = start; i < end; i++) {
            part += (uint32_t)grey(red[i], green[i], blue[i]);
        }
        sum += part;
    }
    blend_with_level(planes, 3 * count, (int)((double)sum / (double)count + 0.5), factor);
}

static void colour(uint8_t *planes, size_t count, float factor) {
    uint8_t *red = planes, *green = planes + count, *blue = planes + 2 * count;
    for (size_t i = 0; i < count; i++) {
        int base = grey(red[i], green[i], blue[i]);
        red[i] = blended(base, red[i], factor);
        green[i] = blended(base, green[i], factor);
        blue[i] = blended(base, blue[i], factor);
    }
}
