/* Huffman decoding with tables that look up a code together with the length of the number that follows it.
 *
 * Anything that no encoder writes (unknown codes, too many coefficients, data that ends early) ends the attempt; the
 * file is then left to libjpeg.
 */

enum { LOOK = 10, END_OF_BLOCK = 127 };

/* `codes` is for codes of at most LOOK bits. An entry holds, from its lowest bit: the length of code and number (6 bits),
 * of the code (5) and of the number (5), and the coefficients to advance (7). It is 0 for longer codes, which are found
 * by their limits. */
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

static inline void consume(Bits *bits, int count) {
    bits->bits <<= count;
    bits->count -= count;
}

/* The number that the first `size` bits encode. */
static inline int extend(uint64_t bits, int size) {
    int value = (int)(bits >> 1 >> (63 - size)), negative = (int)~((int64_t)bits >> 63);
    return value - (negative & ((1 << size) - 1));
}

/* A symbol is a run and a size in AC tables, a size in DC tables. Returns 0 for symbols that no encoder writes. */
static inline uint32_t entry_of(int symbol, int length, int is_dc) {
    int run = is_dc ? 0 : symbol >> 4, size = is_dc ? symbol : symbol & 15;
    int advance = !is_dc && symbol == 0 ? END_OF_BLOCK : run + 1;
    if (size > (is_dc ? 11 : 10) || (!is_dc && size == 0 && run != 0 && run != 15)) {
        return 0;
    }
    return (uint32_t)(length + size) | (uint32_t)length << 6 | (uint32_t)size << 11 | (uint32_t)advance << 16;
}

static int huffman_new(Huffman *table, const uint8_t *definition, int is_dc) {
    int code = 0, symbol = 0;
    memset(table->codes, 0, sizeof table->codes);
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
                table->codes[code << (LOOK - length) | rest] = entry;
            }
        }
        if (symbol > 0 && code >= 1 << length) { /* no code is all ones */
            return 0;
        }
        table->limit[length] = code << (16 - length);
    }
    return 1;
}

/* The entry of a code of more than LOOK bits, or 0. */
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
    return __builtin_expect(entry == 0, 0) ? long_entry(table, bits->bits) : entry;
}

static inline int number_of(uint32_t entry, const Bits *bits) {
    return extend(bits->bits << (entry >> 6 & 31), (int)(entry >> 11 & 31));
}

static inline int read_dc(const Huffman *table, Bits *bits, int *difference) {
    refill(bits);
    uint32_t entry = next_entry(table, bits);
    *difference = number_of(entry, bits);
    consume(bits, (int)(entry & 63));
    return entry != 0;
}

/* Dequantised coefficients of a block, and whether one of them needs more than 15 bits. */
typedef struct {
    int16_t *numbers;
    const uint16_t *quantization;
    uint32_t wide; /* 32768 or more if one does */
} Block;

/* Reads one symbol of a block. Returns the index of its coefficient, END_OF_BLOCK and more at the end of the block, or
 * 2 * END_OF_BLOCK for an error. `block` is NULL if the coefficients are not needed. */
static inline int read_coefficient(const Huffman *table, Bits *bits, int k, Block *block) {
    uint32_t entry = next_entry(table, bits);
    k += (int)(entry >> 16);
    if (entry == 0) {
        return 2 * END_OF_BLOCK;
    }
    if (block != NULL && k < 64) {
        int place = NATURAL_ORDER[k], product = number_of(entry, bits) * block->quantization[place];
        block->wide |= (uint32_t)(product + 16384);
        block->numbers[place] = (int16_t)product;
    }
    consume(bits, (int)(entry & 63));
    return k;
}

/* Reads all coefficients of a block except the first. Returns the index of the last one, or -1 for an error. Two symbols,
 * of at most 26 bits each, are read per refill. */
static inline int read_ac(const Huffman *table, Bits *bits, Block *block) {
    int k = 0, last;
    do {
        refill(bits);
        last = k;
        k = read_coefficient(table, bits, k, block);
        if (k >= 63) {
            break;
        }
        last = k;
        k = read_coefficient(table, bits, k, block);
    } while (k < 63);
    return k == 63 ? 63 : k >= END_OF_BLOCK && k < 2 * END_OF_BLOCK ? last : -1;
}
