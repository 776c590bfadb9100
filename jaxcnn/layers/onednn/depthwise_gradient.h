/* The gradient of a depthwise kernel. oneDNN has no special implementation for AVX2 if the kernel is wider than 3, and its
   general one takes 4 to 9 times as long as this one (docs/performance.md).

   Per channel, the gradient of a pixel of the kernel is the sum over all positions of the input there times the results'
   gradient. A line of results is multiplied by each of the input lines that it depends on. Meanwhile the sums of up to 7 pixels
   of a row of the kernel are in registers. Input lines are copied with their padding, so that no pixel needs a bounds check. */
#include "kernel_gradient.h"

typedef float Float8 __attribute__((vector_size(32), aligned(4), may_alias)); /* 8 channels */

enum { TAPS = 7 };
#define ALWAYS_INLINE __attribute__((always_inline))

/* Returns whether this is faster than oneDNN, as measured on two cores. */
static int uses_depthwise_sums(const Convolution* c) {
  return c->kind == KERNEL_GRADIENT && c->type == F32 && c->groups > 1 && c->groups == c->inputs && c->inputs == c->outputs &&
         c->inputs % 8 == 0 && dnnl.get_effective_cpu_isa() == AVX2 && has_openmp();
}

/* Copies line `row` of an image, with its padding to the left and right. */
static void copy_padded_line(const Products* p, float* to, int64_t image, int64_t row) {
  const Convolution* c = p->c;
  memset(to, 0, (size_t)p->row_floats * sizeof *to);
  const float* from = p->x + (image * c->height + row) * c->width * c->inputs;
  memcpy(to + c->left * c->inputs, from, (size_t)(c->width * c->inputs) * sizeof *to);
}

/* Adds what one line of results contributes to the sums of `taps` pixels of the kernel and 8 · `eights` channels. */
ALWAYS_INLINE VECTORIZED static inline void add_line(const Convolution* c, const float* x, const float* y, float* sums,
                                                     const int taps, const int eights) {
  Float8 sum[TAPS][2] = {0};
  for (int64_t j = 0; j < c->output_width; j++, x += c->stride[1] * c->inputs, y += c->inputs)
    for (int tap = 0; tap < taps; tap++)
      for (int i = 0; i < eights; i++)
        sum[tap][i] += ((const Float8*)y)[i] * ((const Float8*)(x + tap * c->dilation[1] * c->inputs))[i];
  for (int tap = 0; tap < taps; tap++)
    for (int i = 0; i < eights; i++) ((Float8*)(sums + tap * c->inputs))[i] += sum[tap][i];
}

/* Does the same for all channels. */
ALWAYS_INLINE VECTORIZED static inline void add_channels(const Convolution* c, const float* x, const float* y, float* sums,
                                                         const int taps) {
  int64_t at = 0;
  for (; at + 16 <= c->inputs; at += 16) add_line(c, x + at, y + at, sums + at, taps, 2);
  if (at < c->inputs) add_line(c, x + at, y + at, sums + at, taps, 1);
}

VECTORIZED static void add_taps(const Convolution* c, const float* x, const float* y, float* sums, int64_t taps) {
  switch (taps) { /* constants, so that the compiler unrolls the loops */
    case 1: return add_channels(c, x, y, sums, 1);
    case 2: return add_channels(c, x, y, sums, 2);
    case 3: return add_channels(c, x, y, sums, 3);
    case 4: return add_channels(c, x, y, sums, 4);
    case 5: return add_channels(c, x, y, sums, 5);
    case 6: return add_channels(c, x, y, sums, 6);
    default: return add_channels(c, x, y, sums, TAPS);
  }
}

/* Returns the number of input lines from the first to the last that a line of results depends on. */
static int64_t lines_per_window(const Convolution* c) { return (c->kernel_height - 1) * c->dilation[0] + 1; }

/* Sums over a thread's part of all lines of results. The last input lines are buffered, each at its number modulo the buffer's
   length, so that each is copied once. */
static void add_depthwise(void* work, int thread, int threads) {
  const Products* p = work;
  const Convolution* c = p->c;
  const int64_t line_count = c->images * c->output_height, buffered = lines_per_window(c);
  float *lines = p->workspace + thread * p->floats_per_thread, *sums = sums_of_thread(p, thread);
  memset(sums, 0, (size_t)p->kernel_size * sizeof *sums);
  int64_t image = -1, next = 0; /* the first input line that is not buffered yet */
  for (int64_t line = line_count * thread / threads; line < line_count * (thread + 1) / threads; line++) {
    const int64_t first = line % c->output_height * c->stride[0] - c->top;
    if (line / c->output_height != image || next < first) image = line / c->output_height, next = first < 0 ? 0 : first;
    for (; next < first + buffered && next < c->height; next++)
      copy_padded_line(p, lines + next % buffered * p->row_floats, image, next);
    for (int64_t a = 0; a < c->kernel_height; a++) {
      const int64_t row = first + a * c->dilation[0];
      if (row < 0 || row >= c->height) continue;
      for (int64_t b = 0; b < c->kernel_width; b += TAPS)
        add_taps(c, lines + row % buffered * p->row_floats + b * c->dilation[1] * c->inputs,
                 p->y + line * c->output_width * c->inputs, sums + (a * c->kernel_width + b) * c->inputs,
                 c->kernel_width - b < TAPS ? c->kernel_width - b : TAPS);
    }
  }
}

/* Computes the kernel's gradient. Returns oneDNN's status. The caller holds the lock. */
static int depthwise_kernel_gradient(const Convolution* c, const void* x, void* kernel, const void* y) {
  Products p = {.c = c, .row_floats = (c->left + c->width + c->right) * c->inputs,
                .kernel_size = c->kernel_height * c->kernel_width * c->inputs};
  p.floats_per_thread = (lines_per_window(c) * p.row_floats + p.kernel_size + 15) & ~(int64_t)15;
  return sum_on_team(add_depthwise, &p, x, kernel, y);
}
