/* Operations that map each level of a channel to another level. */

static void apply_table(uint8_t *plane, size_t count, const uint8_t *table) {
    for (size_t i = 0; i < count; i++) {
        plane[i] = table[plane[i]];
    }
}

/* With four tables, equal neighbouring pixels do not wait for each other's update. */
static void histogram(const uint8_t *plane, size_t count, uint32_t *bins) {
    uint32_t parts[4][256];
    size_t i = 0;
    memset(parts, 0, sizeof parts);
    for (; i + 4 <= count; i += 4) {
        for (int k = 0; k < 4; k++) {
            parts[k][plane[i + k]]++;
        }
    }
    for (; i < count; i++) {
        parts[0][plane[i]]++;
    }
    for (int level = 0; level < 256; level++) {
        bins[level] = parts[0][level] + parts[1][level] + parts[2][level] + parts[3][level];
    }
}

static void auto_contrast(uint8_t *plane, size_t count) {
    uint8_t low = 255, high = 0, table[256];
    for (size_t i = 0; i < count; i++) {
        low = plane[i] < low ? plane[i] : low;
        high = plane[i] > high ? plane[i] : high;
    }
    if (high <= low || (low == 0 && high == 255)) {
        return;
    }
    double scale = 255.0 / (high - low), offset = -low * scale;
    for (int level = 0; level < 256; level++) {
        double value = level * scale + offset;
        table[level] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : (int)value);
    }
    apply_table(plane, count, table);
}

static void equalize(uint8_t *plane, size_t count) {
    uint32_t bins[256], used = 0, last = 0, step, sum;
    uint8_t table[256];
    histogram(plane, count, bins);
    for (int level = 0; level < 256; level++) {
        used += bins[level] > 0;
        last = bins[level] > 0 ? bins[level] : last;
    }
    step = ((uint32_t)count - last) / 255;
    if (used <= 1 || step == 0) {
        return;
    }
    sum = step / 2;
    for (int level = 0; level < 256; level++) {
        uint32_t value = sum / step;
        table[level] = (uint8_t)(value > 255 ? 255 : value);
        sum += bins[level];
    }
    apply_table(plane, count, table);
}

static void invert(uint8_t *levels, size_t count) {
    for (size_t i = 0; i < count; i++) {
        levels[i] = (uint8_t)(255 - levels[i]);
    }
}

static void posterize(uint8_t *levels, size_t count, int bits) {
    uint8_t mask = bits <= 0 ? 0 : bits >= 8 ? 0xFF : (uint8_t)(0xFF << (8 - bits));
    for (size_t i = 0; i < count; i++) {
        levels[i] &= mask;
    }
}

static void solarize(uint8_t *levels, size_t count, int threshold) {
    if (threshold > 255) {
        return;
    }
    uint8_t from = (uint8_t)(threshold < 0 ? 0 : threshold);
    for (size_t i = 0; i < count; i++) {
        levels[i] = levels[i] < from ? levels[i] : (uint8_t)(255 - levels[i]);
    }
}

/* 0 <= addend <= 128, so that levels below 128 stay below 256. */
static void solarize_add(uint8_t *levels, size_t count, int addend) {
    for (size_t i = 0; i < count; i++) {
        int raised = levels[i] + addend;
        levels[i] = levels[i] < 128 ? (uint8_t)(raised > 255 ? 255 : raised) : levels[i];
    }
}
