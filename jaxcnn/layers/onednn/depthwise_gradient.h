/* The gradient of a depthwise kernel: oneDNN has no program of its own for it on AVX2 where the kernel is wider than 3, and its
   general one takes 4 to 9 times as long as this (docs/performance.md).

   Each pixel of the kernel has, of every channel, the sum of what it saw times the results' gradient. A line of results goes
   through the lines that it sees, one after the other, and the sums for up to 7 pixels of a line of the kernel are in registers
   meanwhile. Lines that are seen are copied with their padding, so that all pixels always see something. */
#include "kernel_gradient.h"

typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias)); /* channels */

enum { TAPS = 7 };

/* Whether it is faster so, as measured on two cores. */
static int by_depthwise(const Convolution* c) {
  return c->kind == KERNEL_GRADIENT && c->type == F32 && c->groups > 1 && c->groups == c->inputs && c->inputs == c->outputs &&
         c->inputs % 8 == 0 && dnnl.get_effective_cpu_isa() == AVX2 && has_threads();
}

/* Line `row` of an image, between its paddings. */
static void pad(const Products* p, float* to, int64_t image, int64_t row) {
  const Convolution* c = p->c;
  memset(to, 0, (size_t)p->width * sizeof *to);
  memcpy(to + c->left * c->inputs, p->x + (image * c->height + row) * c->width * c->inputs, (size_t)(c->width * c->inputs) * sizeof *to);
}

/* Adds, for so many pixels of the kernel and eights of channels, what a line of results has to add. */
__attribute__((always_inline)) VECTORIZED static inline void add_line(const Convolution* c, const float* x, const float* y, float* sums,
                                                                     const int taps, const int eights) {
  Eight sum[TAPS][2] = {0};
  for (int64_t j = 0; j < c->output_width; j++, x += c->stride[1] * c->inputs, y += c->inputs)
    for (int tap = 0; tap < taps; tap++)
      for (int i = 0; i < eights; i++)
        sum[tap][i] += ((const Eight*)y)[i] * ((const Eight*)(x + tap * c->dilation[1] * c->inputs))[i];
  for (int tap = 0; tap < taps; tap++)
    for (int i = 0; i < eights; i++) ((Eight*)(sums + tap * c->inputs))[i] += sum[tap][i];
}

/* The same for all channels. */
__attribute__((always_inline)) VECTORIZED static inline void add_channels(const Convolution* c, const float* x, const float* y, float* sums,
                                                                         const int taps) {
  int64_t at = 0;
  for (; at + 16 <= c->inputs; at += 16) add_line(c, x + at, y + at, sums + at, taps, 2);
  if (at < c->inputs) add_line(c, x + at, y + at, sums + at, taps, 1);
}

VECTORIZED static void add_taps(const Convolution* c, const float* x, const float* y, float* sums, int64_t taps) {
  switch (taps) { /* constants for the compiler */
    case 1: return add_channels(c, x, y, sums, 1);
    case 2: return add_channels(c, x, y, sums, 2);
    case 3: return add_channels(c, x, y, sums, 3);
    case 4: return add_channels(c, x, y, sums, 4);
    case 5: return add_channels(c, x, y, sums, 5);
    case 6: return add_channels(c, x, y, sums, 6);
    default: return add_channels(c, x, y, sums, TAPS);
  }
}

/* Lines that a line of results sees, the first to the last. */
static int64_t lines_seen(const Convolution* c) { return (c->kernel_height - 1) * c->dilation[0] + 1; }

/* Of a share of all lines of results. The last lines that were seen are kept, each where its number modulo their count says. */
static void sum_up(void* given, int thread, int threads) {
  const Products* p = given;
  const Convolution* c = p->c;
  const int64_t units = c->images * c->output_height, kept = lines_seen(c);
  float *lines = p->space + thread * p->each, *sums = sums_of(p, thread);
  memset(sums, 0, (size_t)p->sums * sizeof *sums);
  int64_t image = -1, next = 0; /* the first line that is not there yet */
  for (int64_t unit = units * thread / threads; unit < units * (thread + 1) / threads; unit++) {
    const int64_t first = unit % c->output_height * c->stride[0] - c->top;
    if (unit / c->output_height != image || next < first) image = unit / c->output_height, next = first < 0 ? 0 : first;
    for (; next < first + kept && next < c->height; next++) pad(p, lines + next % kept * p->width, image, next);
    for (int64_t a = 0; a < c->kernel_height; a++) {
      const int64_t row = first + a * c->dilation[0];
      if (row < 0 || row >= c->height) continue;
      for (int64_t b = 0; b < c->kernel_width; b += TAPS)
        add_taps(c, lines + row % kept * p->width + b * c->dilation[1] * c->inputs, p->y + unit * c->output_width * c->inputs,
                 sums + (a * c->kernel_width + b) * c->inputs, c->kernel_width - b < TAPS ? c->kernel_width - b : TAPS);
    }
  }
}

/* Computes; returns a oneDNN status. The lock is held. */
static int sum_depthwise(const Convolution* c, const void* x, void* kernel, const void* y) {
  Products p = {.c = c, .width = (c->left + c->width + c->right) * c->inputs, .sums = c->kernel_height * c->kernel_width * c->inputs};
  p.each = (lines_seen(c) * p.width + p.sums + 15) & ~(int64_t)15;
  return in_sums(sum_up, &p, x, kernel, y);
}
