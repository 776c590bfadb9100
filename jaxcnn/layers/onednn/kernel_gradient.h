/* The gradient of the kernel as matrix products, up to 5 times as fast as oneDNN's own implementation for AVX2
   (docs/performance.md).

   The gradient, (kernel_height · kernel_width · inputs) × outputs, is the transpose of the matrix of patches times the
   results' gradient, positions × outputs. A position is a pixel of the results. Its patch, a row of the matrix, is the
   inputs that the kernel covers there. Each thread copies the patches of a block of positions into its part of the workspace
   and adds the product to its own sums. For a kernel of one pixel the images already are this matrix, and a single product
   suffices. */
#pragma once
#include "plans.h"

/* A sum over positions. Each thread uses its own `floats_per_thread` of the workspace. The first adds to the result
   directly. */
typedef struct {
  const Convolution* c;
  const float *x, *y;
  float *kernel, *workspace;
  int64_t row_floats, kernel_size, floats_per_thread; /* floats of a patch or padded line, of the kernel, of a thread */
  int status;
} Products;

enum { POSITIONS_PER_BLOCK = 192, MAX_WORKSPACE_BYTES = 1 << 27 };

static Products products(const Convolution* c) {
  Products p = {.c = c, .row_floats = c->kernel_height * c->kernel_width * c->inputs};
  p.kernel_size = p.row_floats * c->outputs;
  p.floats_per_thread = (POSITIONS_PER_BLOCK * p.row_floats + p.kernel_size + 15) & ~(int64_t)15;
  return p;
}

/* Returns whether the kernel has one pixel and a stride of 1, so that each position uses the pixel at the same place. */
static int is_pointwise(const Convolution* c) {
  return c->kernel_height == 1 && c->kernel_width == 1 && c->height == c->output_height && c->width == c->output_width &&
         !(c->top | c->left);
}

/* Returns whether this is faster than oneDNN, as measured on two cores. */
static int uses_matrix_products(const Convolution* c) {
  if (c->kind != KERNEL_GRADIENT || c->type != F32 || c->groups > 1 || dnnl.get_effective_cpu_isa() != AVX2) return 0;
  if (is_pointwise(c)) return c->inputs >= 16 && c->outputs >= 16;
  return c->outputs >= 32 && has_openmp() && products(c).floats_per_thread * team_size * 4 <= MAX_WORKSPACE_BYTES;
}

/* Copies the patches of the positions `first` to `last` - 1, one after the other. Pixels outside the image are zero. */
static void copy_patches(const Convolution* c, const float* x, float* to, int64_t first, int64_t last) {
  const int64_t run = c->dilation[1] == 1 ? c->kernel_width : 1; /* neighboring pixels that are copied at once */
  for (int64_t at = first; at < last; at++) {
    const int64_t line = at / c->output_width, j = at % c->output_width;
    for (int64_t a = 0; a < c->kernel_height; a++) {
      const int64_t row = line % c->output_height * c->stride[0] + a * c->dilation[0] - c->top;
      const float* from = x + (line / c->output_height * c->height + row) * c->width * c->inputs;
      for (int64_t b = 0; b < c->kernel_width; b += run, to += run * c->inputs) {
        const int64_t column = j * c->stride[1] + b * c->dilation[1] - c->left, beyond = column + run - c->width;
        const int64_t before = column < 0 ? -column : 0, inside = run - before - (beyond > 0 ? beyond : 0);
        if (row < 0 || row >= c->height || inside < run) memset(to, 0, (size_t)(run * c->inputs) * sizeof *to);
        if (row >= 0 && row < c->height && inside > 0)
          memcpy(to + before * c->inputs, from + (column + before) * c->inputs, (size_t)(inside * c->inputs) * sizeof *to);
      }
    }
  }
}

/* Returns where a thread sums, kernel_size floats: at the end of its part of the workspace. */
static float* sums_of_thread(const Products* p, int thread) {
  return thread ? p->workspace + (thread + 1) * p->floats_per_thread - p->kernel_size : p->kernel;
}

static void add_products(void* work, int thread, int threads) {
  Products* p = work;
  const Convolution* c = p->c;
  const int64_t positions = c->images * c->output_height * c->output_width, last = positions * (thread + 1) / threads;
  float *patches = p->workspace + thread * p->floats_per_thread, *sums = sums_of_thread(p, thread);
  memset(sums, 0, (size_t)p->kernel_size * sizeof *sums);
  for (int64_t from = positions * thread / threads; from < last; from += POSITIONS_PER_BLOCK) {
    const int64_t to = from + POSITIONS_PER_BLOCK < last ? from + POSITIONS_PER_BLOCK : last;
    copy_patches(c, p->x, patches, from, to);
    int status = dnnl.sgemm('T', 'N', p->row_floats, c->outputs, to - from, 1, patches, p->row_floats, p->y + from * c->outputs,
                            c->outputs, 1, sums, c->outputs);
    if (status) p->status = status;
  }
}

/* Adds the sums of all other threads to those of the first, which are the result. Each thread does a part of the kernel. */
static void add_sums_of_threads(void* work, int thread, int threads) {
  const Products* p = work;
  for (int other = 1; other < threads; other++) {
    const float* restrict sums = sums_of_thread(p, other);
    for (int64_t i = p->kernel_size * thread / threads; i < p->kernel_size * (thread + 1) / threads; i++)
      p->kernel[i] += sums[i];
  }
}

/* Computes a kernel's gradient as the sum over threads of what `add` adds to `sums_of_thread`. Returns oneDNN's status. */
static int sum_on_team(void (*add)(void*, int, int), Products* p, const void* x, void* kernel, const void* y) {
  p->x = x, p->y = y, p->kernel = kernel;
  p->workspace = (float*)reserve_workspace((size_t)(p->floats_per_thread * team_size) * sizeof(float));
  if (!p->workspace) return 1;
  run_on_team(add, p);
  run_on_team(add_sums_of_threads, p);
  return p->status;
}

/* Computes the kernel's gradient. Returns oneDNN's status. The caller holds the lock. */
static int kernel_gradient_by_products(const Convolution* c, const void* x, void* kernel, const void* y) {
  if (is_pointwise(c))
    return dnnl.sgemm('T', 'N', c->inputs, c->outputs, c->images * c->height * c->width, 1, x, c->inputs, y, c->outputs, 0,
                      kernel, c->outputs);
  Products p = products(c);
  return sum_on_team(add_products, &p, x, kernel, y);
}
