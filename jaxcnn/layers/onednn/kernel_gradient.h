/* The gradient of the kernel by matrix products: up to 5 times as fast as oneDNN's own program for AVX2 (docs/performance.md).

   It is the product of what each position of the results saw, (positions × pixels of the kernel · inputs) transposed, and of the
   results' gradient, (positions × outputs). Each thread copies what a block of its positions saw, one behind the other, and adds
   the block's product to its sums. A kernel of one pixel is one product, of images as they lie. */
#pragma once
#include "plans.h"

/* What threads add up, each its own `each` floats of space; the first one's sums are where the result shall be. */
typedef struct {
  const Convolution* c;
  const float *x, *y;
  float *kernel, *space;
  int64_t width, sums, each; /* floats: that a position sees, of a kernel, of a thread */
  int status;
} Products;

enum { POSITIONS = 192, MOST_BYTES = 1 << 27 };

static Products products(const Convolution* c) {
  Products p = {.c = c, .width = c->kernel_height * c->kernel_width * c->inputs};
  p.sums = p.width * c->outputs;
  p.each = (POSITIONS * p.width + p.sums + 15) & ~(int64_t)15;
  return p;
}

static int single(const Convolution* c) {
  return c->kernel_height == 1 && c->kernel_width == 1 && c->height == c->output_height && c->width == c->output_width &&
         !(c->top | c->left);
}

/* Whether it is faster so, as measured on two cores. */
static int by_products(const Convolution* c) {
  if (c->kind != KERNEL_GRADIENT || c->type != F32 || c->groups > 1 || dnnl.get_effective_cpu_isa() != AVX2) return 0;
  if (single(c)) return c->inputs >= 16 && c->outputs >= 16;
  return c->outputs >= 32 && has_threads() && products(c).each * team * 4 <= MOST_BYTES;
}

/* What positions see, one behind the other. */
static void copy_seen(const Convolution* c, const float* x, float* to, int64_t first, int64_t last) {
  const int64_t run = c->dilation[1] == 1 ? c->kernel_width : 1; /* pixels of a line of the kernel that see neighbours */
  for (int64_t at = first; at < last; at++) {
    const int64_t line = at / c->output_width, j = at % c->output_width;
    for (int64_t a = 0; a < c->kernel_height; a++) {
      const int64_t row = line % c->output_height * c->stride[0] + a * c->dilation[0] - c->top;
      const float* from = x + (line / c->output_height * c->height + row) * c->width * c->inputs;
      for (int64_t b = 0; b < c->kernel_width; b += run, to += run * c->inputs) {
        const int64_t column = j * c->stride[1] + b * c->dilation[1] - c->left, over = column + run - c->width;
        const int64_t before = column < 0 ? -column : 0, seen = run - before - (over > 0 ? over : 0);
        if (row < 0 || row >= c->height || seen < run) memset(to, 0, (size_t)(run * c->inputs) * sizeof *to);
        if (row >= 0 && row < c->height && seen > 0)
          memcpy(to + before * c->inputs, from + (column + before) * c->inputs, (size_t)(seen * c->inputs) * sizeof *to);
      }
    }
  }
}

/* Where a thread adds up. */
static float* sums_of(const Products* p, int thread) { return thread ? p->space + (thread + 1) * p->each - p->sums : p->kernel; }

static void multiply(void* given, int thread, int threads) {
  Products* p = given;
  const Convolution* c = p->c;
  const int64_t all = c->images * c->output_height * c->output_width, last = all * (thread + 1) / threads;
  float *seen = p->space + thread * p->each, *sums = sums_of(p, thread);
  memset(sums, 0, (size_t)p->sums * sizeof *sums);
  for (int64_t from = all * thread / threads; from < last; from += POSITIONS) {
    const int64_t to = from + POSITIONS < last ? from + POSITIONS : last;
    copy_seen(c, p->x, seen, from, to);
    int status = dnnl.sgemm('T', 'N', p->width, c->outputs, to - from, 1, seen, p->width, p->y + from * c->outputs, c->outputs, 1,
                            sums, c->outputs);
    if (status) p->status = status;
  }
}

/* All threads' sums. */
static void add_up(void* given, int thread, int threads) {
  const Products* p = given;
  for (int other = 1; other < threads; other++) {
    const float* restrict sums = sums_of(p, other);
    for (int64_t i = p->sums * thread / threads; i < p->sums * (thread + 1) / threads; i++) p->kernel[i] += sums[i];
  }
}

/* Has all threads add up, by `add` and each in its space. Returns oneDNN's status. */
static int in_sums(void (*add)(void*, int, int), Products* p, const void* x, void* kernel, const void* y) {
  p->x = x, p->y = y, p->kernel = kernel;
  p->space = (float*)work((size_t)(p->each * team) * sizeof(float));
  if (!p->space) return 1;
  in_shares(add, p);
  in_shares(add_up, p);
  return p->status;
}

/* Computes; returns oneDNN's status. The lock is held. */
static int multiply_out(const Convolution* c, const void* x, void* kernel, const void* y) {
  if (single(c))
    return dnnl.sgemm('T', 'N', c->inputs, c->outputs, c->images * c->height * c->width, 1, x, c->inputs, y, c->outputs, 0, kernel,
                      c->outputs);
  Products p = products(c);
  return in_sums(multiply, &p, x, kernel, y);
}
