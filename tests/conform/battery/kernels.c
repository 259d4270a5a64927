// Plain kernels of the block formats, one after another, to plant bugs in: see battery/__init__.py.
// Each section is compiled with the common part alone. A kernel takes a count of blocks, and works on one row.

// common
#include <math.h>
#include <stdint.h>
#include <string.h>

static float as_float(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }
static uint32_t as_bits(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }

static float load_half(const uint8_t *p) {
    uint32_t h = p[0] | p[1] << 8;
    uint32_t sign = (h & 0x8000) << 16, e = h >> 10 & 31, m = h & 1023;
    if (e == 31) return as_float(sign | 0x7F800000 | m << 13);
    if (e == 0) return as_float(sign | as_bits((float)m * 0x1p-24f));
    return as_float(sign | (e + 112) << 23 | m << 13);
}

static void store_half(uint8_t *p, float f) {
    uint32_t u = as_bits(f), sign = u >> 16 & 0x8000, a = u & 0x7FFFFFFF, h;
    if (a > 0x7F800000) h = 0x7E00;
    else if (a >= 0x47800000) h = 0x7C00;
    else if (a < 0x38800000) h = (uint32_t)nearbyintf(as_float(a) * 0x1p24f);
    else h = (a - 0x38000000 + 0xFFF + (a >> 13 & 1)) >> 13;
    h |= sign;
    p[0] = h; p[1] = h >> 8;
}

static float load_float(const uint8_t *p) { float f; memcpy(&f, p, 4); return f; }
static int int8(int x) { return (int8_t)x; }
static int least(int a, int b) { return a < b ? a : b; }

static void six_bits(const uint8_t *s, int j, int *scale, int *min) {
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
        *min = (s[j + 4] >> 4) | (s[j] >> 6) << 4;
    }
}

static const int8_t uneven[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const int8_t twice_fp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static float half_power(uint8_t e) { return as_float(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23); }
static float half_ue4m3(uint8_t v) {
    int e = v >> 3 & 15, m = v & 7;
    if (v == 127) return 0;
    return 0.5f * (e ? ldexpf(1 + m / 8.0f, e - 7) : ldexpf(m, -9));
}

// Q4_0.decode
void decode(int blocks, const uint8_t *b, float *y) {
    for (int i = 0; i < blocks; i++, b += 18, y += 32) {
        float d = load_half(b);
        for (int j = 0; j < 16; j++) {
            y[j] = ((b[2 + j] & 15) - 8) * d;
            y[j + 16] = ((b[2 + j] >> 4) - 8) * d;
        }
    }
}

// Q4_0.encode
void encode(int blocks, const float *x, uint8_t *b) {
    for (int i = 0; i < blocks; i++, b += 18, x += 32) {
        float top = 0, extreme = 0;
        for (int j = 0; j < 32; j++)
            if (fabsf(x[j]) > top) { top = fabsf(x[j]); extreme = x[j]; }
        float d = extreme / -8, inverse = d ? 1 / d : 0;
        store_half(b, d);
        for (int j = 0; j < 16; j++) {
            int low = least(15, int8((int)(x[j] * inverse + 8.5f)));
            int high = least(15, int8((int)(x[j + 16] * inverse + 8.5f)));
            b[2 + j] = low | high << 4;
        }
    }
}

// Q4_0.dot
float dot(int blocks, const uint8_t *w, const uint8_t *a) {
    float sum = 0;
    for (int i = 0; i < blocks; i++, w += 18, a += 34) {
        int s = 0;
        for (int j = 0; j < 16; j++) {
            int low = (w[2 + j] & 15) - 8, high = (w[2 + j] >> 4) - 8;
            s += low * (int8_t)a[2 + j];
            s += high * (int8_t)a[18 + j];
        }
        sum += s * load_half(w) * load_half(a);
    }
    return sum;
}

// Q4_1.decode
void decode(int blocks, const uint8_t *b, float *y) {
    for (int i = 0; i < blocks; i++, b += 20, y += 32) {
        float d = load_half(b), m = load_half(b + 2);
        for (int j = 0; j < 16; j++) {
            y[j] = (b[4 + j] & 15) * d + m;
            y[j + 16] = (b[4 + j] >> 4) * d + m;
        }
    }
}

// Q4_1.encode
void encode(int blocks, const float *x, uint8_t *b) {
    for (int i = 0; i < blocks; i++, b += 20, x += 32) {
        float low = x[0], high = x[0];
        for (int j = 1; j < 32; j++) {
            if (x[j] < low) low = x[j];
            if (x[j] > high) high = x[j];
        }
        float d = fabsf(high - low) / 15, inverse = d ? 1 / d : 0;
        store_half(b, d);
        store_half(b + 2, low);
        for (int j = 0; j < 16; j++) {
            int first = least(15, int8((int)((x[j] - low) * inverse + 0.5f)));
            int second = least(15, int8((int)((x[j + 16] - low) * inverse + 0.5f)));
            b[4 + j] = first | second << 4;
        }
    }
}

// Q4_1.dot
float dot(int blocks, const uint8_t *w, const uint8_t *a) {
    float sum = 0;
    for (int i = 0; i < blocks; i++, w += 20, a += 36) {
        int s = 0;
        for (int j = 0; j < 16; j++)
            s += (w[4 + j] & 15) * (int8_t)a[4 + j] + (w[4 + j] >> 4) * (int8_t)a[20 + j];
        sum += s * (load_half(w) * load_half(a)) + load_half(w + 2) * load_half(a + 2);
    }
    return sum;
}

// Q5_0.decode
void decode(int blocks, const uint8_t *b, float *y) {
    for (int i = 0; i < blocks; i++, b += 22, y += 32) {
        float d = load_half(b);
        uint32_t fifth;
        memcpy(&fifth, b + 2, 4);
        for (int j = 0; j < 16; j++) {
            int low = (b[6 + j] & 15) | (fifth >> j & 1) << 4;
            int high = b[6 + j] >> 4 | (fifth >> (j + 16) & 1) << 4;
            y[j] = (low - 16) * d;
            y[j + 16] = (high - 16) * d;
        }
    }
}

// Q5_0.encode
void encode(int blocks, const float *x, uint8_t *b) {
    for (int i = 0; i < blocks; i++, b += 22, x += 32) {
        float top = 0, extreme = 0;
        for (int j = 0; j < 32; j++)
            if (fabsf(x[j]) > top) { top = fabsf(x[j]); extreme = x[j]; }
        float d = extreme / -16, inverse = d ? 1 / d : 0;
        uint32_t fifth = 0;
        store_half(b, d);
        for (int j = 0; j < 16; j++) {
            int low = least(31, int8((int)(x[j] * inverse + 16.5f)));
            int high = least(31, int8((int)(x[j + 16] * inverse + 16.5f)));
            b[6 + j] = (low & 15) | (high & 15) << 4;
            fifth |= (uint32_t)(low >> 4 & 1) << j;
            fifth |= (uint32_t)(high >> 4 & 1) << (j + 16);
        }
        memcpy(b + 2, &fifth, 4);
    }
}

// Q5_0.dot
float dot(int blocks, const uint8_t *w, const uint8_t *a) {
    float sum = 0;
    for (int i = 0; i < blocks; i++, w += 22, a += 34) {
        uint32_t fifth;
        memcpy(&fifth, w + 2, 4);
        int s = 0;
        for (int j = 0; j < 16; j++) {
            int low = (w[6 + j] & 15) | (fifth >> j & 1) << 4;
            int high = w[6 + j] >> 4 | (fifth >> (j + 16) & 1) << 4;
            s += (low - 16) * (int8_t)a[2 + j] + (high - 16) * (int8_t)a[18 + j];
        }
        sum += load_half(w) * load_half(a) * s;
    }
    return sum;
}

// Q5_1.decode
void decode(int blocks, const uint8_t *b, float *y) {
    for (int i = 0; i < blocks; i++, b += 24, y += 32) {
        float d = load_half(b), m = load_half(b + 2);
        uint32_t fifth;
        memcpy(&fifth, b + 4, 4);
        for (int j = 0; j < 16; j++) {
            int low = (b[8 + j] & 15) | (fifth >> j & 1) << 4;
            int high = b[8 + j] >> 4 | (fifth >> (j + 16) & 1) << 4;
            y[j] = low * d + m;
            y[j + 16] = high * d + m;
        }
    }
}

// Q5_1.encode
void encode(int blocks, const float *x, uint8_t *b) {
    for (int i = 0; i < blocks; i++, b += 24, x += 32) {
        float low = x[0], high = x[0];
        for (int j = 1; j < 32; j++) {
            if (x[j] < low) low = x[j];
            if (x[j] > high) high = x[j];
        }
        float d = fabsf(high - low) / 31, inverse = d ? 1 / d : 0;
        uint32_t fifth = 0;
        store_half(b, d);
        store_half(b + 2, low);
        for (int j = 0; j < 16; j++) {
            int first = (uint8_t)(int)((x[j] - low) * inverse + 0.5f);
            int second = (uint8_t)(int)((x[j + 16] - low) * inverse + 0.5f);
            b[8 + j] = (first & 15) | (second & 15) << 4;
            fifth |= (uint32_t)(first >> 4 & 1) << j | (uint32_t)(second >> 4 & 1) << (j + 16);
        }
        memcpy(b + 4, &fifth, 4);
    }
}

// Q8_0.decode
void decode(int blocks, const uint8_t *b, float *y) {
    for (int i = 0; i < blocks; i++, b += 34, y += 32) {
        float d = load_half(b);
        for (int j = 0; j < 32; j++) y[j] = (int8_t)b[2 + j] * d;
    }
}

// Q8_0.encode
void encode(int blocks, const float *x, uint8_t *b) {
    for (int i = 0; i < blocks; i++, b += 34, x += 32) {
        float top = 0;
        for (int j = 0; j < 32; j++) top = fmaxf(top, fabsf(x[j]));
        float d = top / 127, inverse = d ? 1 / d : 0;
        store_half(b, d);
        for (int j = 0; j < 32; j++) b[2 + j] = (int)roundf(x[j] * inverse);
    }
}

// Q8_0.dot
float dot(int blocks, const uint8_t *w, const uint8_t *a) {
    float sum = 0;
    for (int i = 0; i < blocks; i++, w += 34, a += 34) {
        int s = 0;
        for (int j = 0; j < 32; j++) s += (int8_t)w[2 + j] * (int8_t)a[2 + j];
        sum += s * (load_half(w) * load_half(a));
    }
    return sum;
}

// Q8_1.encode
void encode(int blocks, const float *x, uint8_t *b) {
    for (int i = 0; i < blocks; i++, b += 36, x += 32) {
        float top = 0;
        for (int j = 0; j < 32; j++) top = fmaxf(top, fabsf(x[j]));
        float d = top / 127, inverse = d ? 1 / d : 0;
        int sum = 0;
        store_half(b, d);
        for (int j = 0; j < 32; j++) {
            int q = int8((int)roundf(x[j] * inverse));
            b[4 + j] = q;
            sum += q;
        }
        store_half(b + 2, sum * d);
    }
}

// Q8_K.encode
void encode(int blocks, const float *x, uint8_t *b) {
    for (int i = 0; i < blocks; i++, b += 292, x += 256) {
        float top = 0, extreme = 0;
        for (int j = 0; j < 256; j++)
            if (fabsf(x[j]) > top) { top = fabsf(x[j]); extreme = x[j]; }
        memset(b, 0, 292);
        if (top == 0) continue;
        float inverse = -127 / extreme, d = 1 / inverse;
        memcpy(b, &d, 4);
        for (int j = 0; j < 256; j++) b[4 + j] = least(127, (int)nearbyintf(inverse * x[j]));
        for (int g = 0; g < 16; g++) {
            int16_t sum = 0;
            for (int j = 0; j < 16; j++) sum += (int8_t)b[4 + 16 * g + j];
            memcpy(b + 260 + 2 * g, &sum, 2);
        }
    }
}

// Q8_K.decode
void decode(int blocks, const uint8_t *b, float *y) {
    for (int i = 0; i < blocks; i++, b += 292, y += 256)
        for (int j = 0; j < 256; j++) y[j] = load_float(b) * (int8_t)b[4 + j];
}

// Q2_K.decode
void decode(int blocks, const uint8_t *b, float *y) {
    for (int i = 0; i < blocks; i++, b += 84, y += 256) {
        float d = load_half(b + 80), dmin = load_half(b + 82);
        for (int j = 0; j < 256; j++) {
            int sc = b[j / 16], q = b[16 + 32 * (j / 128) + j % 32] >> 2 * (j % 128 / 32) & 3;
            y[j] = d * (sc & 15) * q - dmin * (sc >> 4);
        }
    }
}

// Q2_K.dot
float dot(int blocks, const uint8_t *w, const uint8_t *a) {
    float sum = 0;
    for (int i = 0; i < blocks; i++, w += 84, a += 292) {
        int codes = 0, mins = 0;
        for (int g = 0; g < 16; g++) {
            int16_t bsum;
            memcpy(&bsum, a + 260 + 2 * g, 2);
            mins += (w[g] >> 4) * bsum;
        }
        for (int j = 0; j < 256; j++) {
            int q = w[16 + 32 * (j / 128) + j % 32] >> 2 * (j % 128 / 32) & 3;
            codes += (w[j / 16] & 15) * q * (int8_t)a[4 + j];
        }
        float da = load_float(a);
        sum += load_half(w + 80) * da * codes - load_half(w + 82) * da * mins;
    }
    return sum;
}

// Q3_K.decode
void decode(int blocks, const uint8_t *b, float *y) {
    for (int i = 0; i < blocks; i++, b += 110, y += 256) {
        float d = load_half(b + 108);
        const uint8_t *s = b + 96;
        for (int j = 0; j < 256; j++) {
            int g = j / 16;
            int sc = (s[g % 8] >> 4 * (g / 8) & 15) | (s[8 + g % 4] >> 2 * (g / 4) & 3) << 4;
            int q = b[32 + 32 * (j / 128) + j % 32] >> 2 * (j % 128 / 32) & 3;
            int high = b[j % 32] >> (j / 32) & 1;
            y[j] = d * (sc - 32) * (q - (high ? 0 : 4));
        }
    }
}

// Q4_K.decode
void decode(int blocks, const uint8_t *b, float *y) {
    for (int i = 0; i < blocks; i++, b += 144, y += 256) {
        float d = load_half(b), dmin = load_half(b + 2);
        for (int s = 0; s < 8; s++) {
            int scale, min;
            six_bits(b + 4, s, &scale, &min);
            for (int j = 0; j < 32; j++) {
                int q = b[16 + 32 * (s / 2) + j] >> 4 * (s % 2) & 15;
                y[32 * s + j] = d * scale * q - dmin * min;
            }
        }
    }
}

// Q4_K.dot
float dot(int blocks, const uint8_t *w, const uint8_t *a) {
    float sum = 0;
    for (int i = 0; i < blocks; i++, w += 144, a += 292) {
        int codes = 0, mins = 0;
        for (int s = 0; s < 8; s++) {
            int scale, min, part = 0;
            int16_t bsums[2];
            six_bits(w + 4, s, &scale, &min);
            memcpy(bsums, a + 260 + 4 * s, 4);
            for (int j = 0; j < 32; j++)
                part += (w[16 + 32 * (s / 2) + j] >> 4 * (s % 2) & 15) * (int8_t)a[4 + 32 * s + j];
            codes += scale * part;
            mins += min * (bsums[0] + bsums[1]);
        }
        float da = load_float(a);
        sum += load_half(w) * da * codes - load_half(w + 2) * da * mins;
    }
    return sum;
}

// Q5_K.decode
void decode(int blocks, const uint8_t *b, float *y) {
    for (int i = 0; i < blocks; i++, b += 176, y += 256) {
        float d = load_half(b), dmin = load_half(b + 2);
        for (int s = 0; s < 8; s++) {
            int scale, min;
            six_bits(b + 4, s, &scale, &min);
            for (int j = 0; j < 32; j++) {
                int q = b[48 + 32 * (s / 2) + j] >> 4 * (s % 2) & 15;
                q += (b[16 + j] >> s & 1) << 4;
                y[32 * s + j] = d * scale * q - dmin * min;
            }
        }
    }
}

// Q6_K.decode
void decode(int blocks, const uint8_t *b, float *y) {
    for (int i = 0; i < blocks; i++, b += 210, y += 256) {
        float d = load_half(b + 208);
        for (int j = 0; j < 256; j++) {
            int half = j / 128, quarter = j % 128 / 32, k = j % 32;
            int low = b[64 * half + 32 * (quarter % 2) + k] >> 4 * (quarter / 2) & 15;
            int high = b[128 + 32 * half + k] >> 2 * quarter & 3;
            y[j] = d * (int8_t)b[192 + j / 16] * ((low | high << 4) - 32);
        }
    }
}

// Q6_K.dot
float dot(int blocks, const uint8_t *w, const uint8_t *a) {
    float sum = 0;
    for (int i = 0; i < blocks; i++, w += 210, a += 292) {
        int total = 0;
        for (int j = 0; j < 256; j++) {
            int half = j / 128, quarter = j % 128 / 32, k = j % 32;
            int low = w[64 * half + 32 * (quarter % 2) + k] >> 4 * (quarter / 2) & 15;
            int high = w[128 + 32 * half + k] >> 2 * quarter & 3;
            total += (int8_t)w[192 + j / 16] * ((low | high << 4) - 32) * (int8_t)a[4 + j];
        }
        sum += load_half(w + 208) * load_float(a) * total;
    }
    return sum;
}

// IQ4_NL.decode
void decode(int blocks, const uint8_t *b, float *y) {
    for (int i = 0; i < blocks; i++, b += 18, y += 32) {
        float d = load_half(b);
        for (int j = 0; j < 16; j++) {
            y[j] = d * uneven[b[2 + j] & 15];
            y[j + 16] = d * uneven[b[2 + j] >> 4];
        }
    }
}

// IQ4_NL.dot
float dot(int blocks, const uint8_t *w, const uint8_t *a) {
    float sum = 0;
    for (int i = 0; i < blocks; i++, w += 18, a += 34) {
        int s = 0;
        for (int j = 0; j < 16; j++) {
            s += uneven[w[2 + j] & 15] * (int8_t)a[2 + j];
            s += uneven[w[2 + j] >> 4] * (int8_t)a[18 + j];
        }
        sum += load_half(w) * load_half(a) * s;
    }
    return sum;
}

// IQ4_XS.decode
void decode(int blocks, const uint8_t *b, float *y) {
    for (int i = 0; i < blocks; i++, b += 136, y += 256) {
        float d = load_half(b);
        int highs = b[2] | b[3] << 8;
        for (int s = 0; s < 8; s++) {
            int scale = (b[4 + s / 2] >> 4 * (s % 2) & 15) | (highs >> 2 * s & 3) << 4;
            for (int j = 0; j < 16; j++) {
                y[32 * s + j] = d * (scale - 32) * uneven[b[8 + 16 * s + j] & 15];
                y[32 * s + j + 16] = d * (scale - 32) * uneven[b[8 + 16 * s + j] >> 4];
            }
        }
    }
}

// TQ1_0.decode
void decode(int blocks, const uint8_t *b, float *y) {
    static const uint8_t powers[5] = {1, 3, 9, 27, 81};
    for (int i = 0; i < blocks; i++, b += 54, y += 256) {
        float d = load_half(b + 52);
        for (int j = 0; j < 256; j++) {
            int byte = j < 160 ? j % 32 : j < 240 ? 32 + (j - 160) % 16 : 48 + (j - 240) % 4;
            int digit = j < 160 ? j / 32 : j < 240 ? (j - 160) / 16 : (j - 240) / 4;
            uint8_t rest = b[byte] * powers[digit];
            y[j] = ((rest * 3 >> 8) - 1) * d;
        }
    }
}

// TQ1_0.encode
void encode(int blocks, const float *x, uint8_t *b) {
    for (int i = 0; i < blocks; i++, b += 54, x += 256) {
        float d = 0;
        for (int j = 0; j < 256; j++) d = fmaxf(d, fabsf(x[j]));
        float inverse = d ? 1 / d : 0;
        store_half(b + 52, d);
        for (int byte = 0; byte < 52; byte++) {
            int number = 0;
            for (int digit = 0; digit < 5; digit++) {
                int j = byte < 32 ? byte + 32 * digit : byte < 48 ? 128 + byte + 16 * digit : 192 + byte + 4 * digit;
                number *= 3;
                if (byte < 48 || digit < 4) number += (int)roundf(x[j] * inverse) + 1;
            }
            b[byte] = (number * 256 + 242) / 243;
        }
    }
}

// TQ2_0.decode
void decode(int blocks, const uint8_t *b, float *y) {
    for (int i = 0; i < blocks; i++, b += 66, y += 256) {
        float d = load_half(b + 64);
        for (int j = 0; j < 256; j++) y[j] = ((b[32 * (j / 128) + j % 32] >> 2 * (j % 128 / 32) & 3) - 1) * d;
    }
}

// TQ2_0.encode
void encode(int blocks, const float *x, uint8_t *b) {
    for (int i = 0; i < blocks; i++, b += 66, x += 256) {
        float d = 0;
        for (int j = 0; j < 256; j++) d = fmaxf(d, fabsf(x[j]));
        float inverse = d ? 1 / d : 0;
        memset(b, 0, 66);
        store_half(b + 64, d);
        for (int j = 0; j < 256; j++) {
            int q = (int)roundf(x[j] * inverse) + 1;
            b[32 * (j / 128) + j % 32] |= (q & 3) << 2 * (j % 128 / 32);
        }
    }
}

// TQ2_0.dot
float dot(int blocks, const uint8_t *w, const uint8_t *a) {
    float sum = 0;
    for (int i = 0; i < blocks; i++, w += 66, a += 292) {
        int s = 0;
        for (int j = 0; j < 256; j++)
            s += ((w[32 * (j / 128) + j % 32] >> 2 * (j % 128 / 32) & 3) - 1) * (int8_t)a[4 + j];
        sum += s * (load_half(w + 64) * load_float(a));
    }
    return sum;
}

// MXFP4.decode
void decode(int blocks, const uint8_t *b, float *y) {
    for (int i = 0; i < blocks; i++, b += 17, y += 32) {
        float d = half_power(b[0]);
        for (int j = 0; j < 16; j++) {
            y[j] = twice_fp4[b[1 + j] & 15] * d;
            y[j + 16] = twice_fp4[b[1 + j] >> 4] * d;
        }
    }
}

// MXFP4.dot
float dot(int blocks, const uint8_t *w, const uint8_t *a) {
    float sum = 0;
    for (int i = 0; i < blocks; i++, w += 17, a += 34) {
        int s = 0;
        for (int j = 0; j < 16; j++)
            s += twice_fp4[w[1 + j] & 15] * (int8_t)a[2 + j] + twice_fp4[w[1 + j] >> 4] * (int8_t)a[18 + j];
        sum += half_power(w[0]) * load_half(a) * s;
    }
    return sum;
}

// NVFP4.decode
void decode(int blocks, const uint8_t *b, float *y) {
    for (int i = 0; i < blocks; i++, b += 36, y += 64)
        for (int s = 0; s < 4; s++)
            for (int j = 0; j < 8; j++) {
                y[16 * s + j] = half_ue4m3(b[s]) * twice_fp4[b[4 + 8 * s + j] & 15];
                y[16 * s + j + 8] = half_ue4m3(b[s]) * twice_fp4[b[4 + 8 * s + j] >> 4];
            }
}

// Q1_0.decode
void decode(int blocks, const uint8_t *b, float *y) {
    for (int i = 0; i < blocks; i++, b += 18, y += 128) {
        float d = load_half(b);
        for (int j = 0; j < 128; j++) y[j] = b[2 + j / 8] >> j % 8 & 1 ? d : -d;
    }
}

// Q1_0.encode
void encode(int blocks, const float *x, uint8_t *b) {
    for (int i = 0; i < blocks; i++, b += 18, x += 128) {
        float sum = 0;
        memset(b, 0, 18);
        for (int j = 0; j < 128; j++) {
            sum += fabsf(x[j]);
            if (x[j] >= 0) b[2 + j / 8] |= 1 << j % 8;
        }
        store_half(b, sum / 128);
    }
}
