/* Huffman decoding with tables that look up a code together with the number that follows it.
 *
 * Anything that no encoder writes (unknown codes, too many coefficients, data that ends early) ends the attempt; the
 * file is then left to libjpeg.
 */

/* An entry holds, from its lowest bit: the length of code and number (7 bits); whether the number has yet to be read; the
 * coefficients to advance (8), or 0 if the code is longer than LOOK bits; and the number (16) or, if it has yet to be read,
 * the lengths of the code (8) and of the number (8). */
enum { LOOK = 11, UNREAD = 1 << 7, END_OF_BLOCK = 127, NO_SYMBOL = 255 << 8 };

typedef struct {
    uint32_t codes[1 << LOOK];
    int32_t limit[17];  /* the first 16-bit window that starts with no code of up to this length */
    int32_t offset[17]; /* the symbol of a code is symbols[code + offset] */
    const uint8_t *symbols;
    int is_dc;
} Huffman;

typedef struct {
    const uint8_t *next;
    uint64_t bits; /* the next bit is the highest */
    int count;     /* of valid bits */
} Bits;

static inline void refill(Bits *bits) {
    uint64_t word;
    memcpy(&word, bits->next, sizeof word);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    bits->bits |= word >> bits->count;
    bits->next += (63 - bits->count) >> 3;
    bits->count |= 56;
}

/* Past the code and number of an entry. */
static inline void consume(Bits *bits, uint32_t entry) {
    bits->bits <<= entry & 63;
    bits->count -= (int)(entry & 63);
}

/* The number that the first `size` bits encode. */
static inline int extend(uint64_t bits, int size) {
    int value = (int)(bits >> 1 >> (63 - size)), negative = (int)~((int64_t)bits >> 63);
    return value - (negative & ((1 << size) - 1));
}

static inline int advance_of(uint32_t entry) { return (int)(entry >> 8 & 255); }

/* The number of an entry that has yet to be read. */
static inline int number_of(uint32_t entry, uint64_t bits) { return extend(bits << (entry >> 16 & 255), (int)(entry >> 24)); }

/* A symbol is a run and a size in AC tables, a size in DC tables. Returns 0 for symbols that no encoder writes. */
static inline uint32_t entry_of(int symbol, int length, int is_dc) {
    int run = is_dc ? 0 : symbol >> 4, size = is_dc ? symbol : symbol & 15;
    int advance = !is_dc && symbol == 0 ? END_OF_BLOCK : run + 1;
    if (size > (is_dc ? 11 : 10) || (!is_dc && size == 0 && run != 0 && run != 15)) {
        return 0;
    }
    return (uint32_t)(length + size) | UNREAD | (uint32_t)advance << 8 | (uint32_t)length << 16 | (uint32_t)size << 24;
}

/* The same for a window of LOOK bits. In AC tables it holds the number if the window does. */
static inline uint32_t entry_in_window(uint32_t entry, uint64_t window, int is_dc) {
    if (entry == 0 || (entry & 63) > LOOK || is_dc) {
        return entry == 0 ? UNREAD : entry;
    }
    int number = number_of(entry, window << (64 - LOOK));
    return (entry & 0xFFFF & ~(uint32_t)UNREAD) | (uint32_t)number << 16;
}

static int huffman_new(Huffman *table, const uint8_t *definition, int is_dc) {
    int code = 0, symbol = 0;
    for (int i = 0; i < 1 << LOOK; i++) {
        table->codes[i] = UNREAD;
    }
    table->symbols = definition + 16;
    table->is_dc = is_dc;
    for (int length = 1; length <= 16; length++, code <<= 1) {
        table->offset[length] = symbol - code;
        for (int i = 0; i < definition[length - 1]; i++, code++, symbol++) {
            uint32_t entry = entry_of(table->symbols[symbol], length, is_dc);
            if (is_dc && table->symbols[symbol] > 15) { /* libjpeg refuses it, even if it is not used */
                return 0;
            }
            for (int rest = 0; length <= LOOK && code < 1 << length && rest < 1 << (LOOK - length); rest++) {
                uint32_t window = (uint32_t)code << (LOOK - length) | (uint32_t)rest;
                table->codes[window] = entry_in_window(entry, window, is_dc);
            }
        }
        if (symbol > 0 && code >= 1 << length) { /* no code is all ones */
            return 0;
        }
        table->limit[length] = code << (16 - length);
    }
    return 1;
}

/* The entry of a code of more than LOOK bits, whose number has yet to be read, or 0. */
static uint32_t long_entry(const Huffman *table, uint64_t bits) {
    int window = (int)(bits >> 48), length = 1; /* starts at 1: a short code may be here because of its symbol */
    while (length <= 16 && window >= table->limit[length]) {
        length++;
    }
    if (length > 16) {
        return 0;
    }
    return entry_of(table->symbols[(window >> (16 - length)) + table->offset[length]], length, table->is_dc);
}

static inline uint32_t next_entry(const Huffman *table, const Bits *bits) {
    uint32_t entry = table->codes[bits->bits >> (64 - LOOK)];
    return __builtin_expect(entry == UNREAD, 0) ? long_entry(table, bits->bits) : entry;
}

static inline int read_dc(const Huffman *table, Bits *bits, int *difference) {
    refill(bits);
    uint32_t entry = next_entry(table, bits);
    *difference = number_of(entry, bits->bits);
    consume(bits, entry);
    return entry != 0;
}

/* Reads one symbol of a block of coefficients, which is NULL if they are not needed, and advances k. Returns 1 at the end of
 * the block. */
static inline int read_symbol(const Huffman *table, Bits *bits, int16_t *numbers, unsigned *k) {
    uint32_t entry = table->codes[bits->bits >> (64 - LOOK)];
    int number = (int32_t)entry >> 16;
    if (__builtin_expect((entry & UNREAD) != 0, 0)) {
        refill(bits);
        entry = next_entry(table, bits);
        number = number_of(entry, bits->bits);
        consume(bits, entry);
        refill(bits);
        entry = entry == 0 ? NO_SYMBOL : entry & 0xFF00 /* it is consumed */;
    }
    consume(bits, entry);
    *k += (unsigned)advance_of(entry);
    if (*k < 63) {
        if (numbers != NULL) {
            numbers[NATURAL_ORDER[*k]] = (int16_t)number;
        }
        return 0;
    }
    if (*k == 63 && numbers != NULL) {
        numbers[63] = (int16_t)number;
    }
    return 1;
}

/* Reads all coefficients of a block except the first. Returns the index of the last one, or -1 for an error. */
static inline int read_ac(const Huffman *table, Bits *bits, int16_t *numbers) {
    unsigned k = 0;
    do {
        refill(bits); /* enough for five symbols of at most LOOK bits; a longer one has a refill of its own */
    } while (!(read_symbol(table, bits, numbers, &k) || read_symbol(table, bits, numbers, &k) || read_symbol(table, bits, numbers, &k) ||
               read_symbol(table, bits, numbers, &k) || read_symbol(table, bits, numbers, &k)));
    return k == 63 ? 63 : k >= END_OF_BLOCK && k < 2 * END_OF_BLOCK ? (int)k - END_OF_BLOCK : -1;
}
