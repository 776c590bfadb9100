/* JAX's random numbers: Threefry-2x32 with 20 rounds. Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3.
   SC 2011. These functions share no state and can be called by any thread. */
#include "plans.h"

typedef struct {
  uint32_t high, low;
} Counter;

static inline uint32_t rotate_left(uint32_t x, int bits) { return x << bits | x >> (32 - bits); }

__attribute__((always_inline)) static inline Counter threefry(const uint32_t* key, Counter c) {
  static const int rotations[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
  const uint32_t keys[3] = {key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA};
  c.high += keys[0], c.low += keys[1];
#pragma GCC unroll 5
  for (uint32_t injection = 0; injection < 5; injection++) {
#pragma GCC unroll 4
    for (int round = 0; round < 4; round++)
      c.high += c.low, c.low = rotate_left(c.low, rotations[injection % 2][round]) ^ c.high;
    c.high += keys[(injection + 1) % 3], c.low += keys[(injection + 2) % 3] + injection + 1;
  }
  return c;
}

/* Computes jax.random.bits: both halves of Threefry of the counter i, combined by exclusive or. */
VECTORIZED static void random_bits(const uint32_t* key, int64_t count, uint32_t* restrict bits) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) {
    const Counter c = threefry(key, (Counter){(uint32_t)((uint64_t)i >> 32), (uint32_t)i});
    bits[i] = c.high ^ c.low;
  }
}

/* Derives keys from a key and the numbers `first`, `first` + 1, …: a single one is jax.random.fold_in's, those from 0 on are
   jax.random.split's. */
static void new_keys(const uint32_t* key, uint32_t first, int64_t count, uint32_t* keys) {
  for (int64_t i = 0; i < count; i++) {
    const Counter c = threefry(key, (Counter){(uint32_t)((uint64_t)i >> 32), first + (uint32_t)i});
    keys[2 * i] = c.high, keys[2 * i + 1] = c.low;
  }
}
