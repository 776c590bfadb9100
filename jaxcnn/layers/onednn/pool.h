/* Maximum pooling, which also stores the position of each maximum, and its gradient; on oneDNN's threads. Images are NHWC.

   Windows are size × size, at most 15 × 15, and the positions in a window are numbered row by row. Padding is never the
   maximum. Of equal maxima the first counts, and of several NaN the last. */
#include "plans.h"

typedef struct {
  int64_t images, height, width, channels, output_height, output_width, size, stride, top, left;
  const float *x, *y_gradient; /* 0 for the gradient: x and y; 0 in the forward pass: both gradients */
  float *y, *x_gradient;
  uint8_t* position;
} Pool;

/* Computes one line of the results; lines are numbered over all images. */
VECTORIZED static void pool_line(const Pool* p, int64_t line_index) {
  const int64_t channels = p->channels, image = line_index / p->output_height;
  const int64_t line = line_index % p->output_height * p->stride - p->top; /* the first line of the windows */
  int32_t positions[channels];
  for (int64_t j = 0; j < p->output_width; j++) {
    float* restrict y = p->y + (line_index * p->output_width + j) * channels;
    const int64_t column = j * p->stride - p->left;
    for (int64_t c = 0; c < channels; c++) y[c] = -INFINITY, positions[c] = 0;
    for (int64_t k = 0; k < p->size * p->size; k++) {
      const int64_t h = line + k / p->size, w = column + k % p->size;
      if (h < 0 || h >= p->height || w < 0 || w >= p->width) continue;
      const float* restrict x = p->x + ((image * p->height + h) * p->width + w) * channels;
      for (int64_t c = 0; c < channels; c++) {
        const int greater = (x[c] > y[c]) | (x[c] != x[c]);
        y[c] = greater ? x[c] : y[c];
        positions[c] = greater ? (int32_t)k : positions[c];
      }
    }
    uint8_t* restrict position = p->position + (line_index * p->output_width + j) * channels;
    for (int64_t c = 0; c < channels; c++) position[c] = (uint8_t)positions[c];
  }
}

/* Computes one line of x's gradient: the sum of the gradients of all windows whose maximum is there. */
VECTORIZED static void pool_gradient_line(const Pool* p, int64_t line_index) {
  const int64_t channels = p->channels, image = line_index / p->height, line = line_index % p->height;
  memset(p->x_gradient + line_index * p->width * channels, 0, (size_t)(p->width * channels) * sizeof(float));
  for (int64_t a = 0; a < p->size; a++) {
    const int64_t above = line + p->top - a, i = above / p->stride;
    if (above < 0 || above % p->stride || i >= p->output_height) continue;
    for (int64_t j = 0; j < p->output_width; j++) {
      const int64_t at = ((image * p->output_height + i) * p->output_width + j) * channels;
      const float* restrict gradient = p->y_gradient + at;
      const uint8_t* restrict position = p->position + at;
      for (int64_t b = 0; b < p->size; b++) {
        const int64_t w = j * p->stride - p->left + b;
        if (w < 0 || w >= p->width) continue;
        float* restrict x = p->x_gradient + (line_index * p->width + w) * channels;
        const int here = (int)(a * p->size + b);
        for (int64_t c = 0; c < channels; c++) x[c] += position[c] == here ? gradient[c] : 0.0f;
      }
    }
  }
}

static void pool_lines(void* pool, int thread, int threads) {
  const Pool* p = pool;
  const int64_t line_count = p->images * (p->y ? p->output_height : p->height);
  for (int64_t line_index = line_count * thread / threads; line_index < line_count * (thread + 1) / threads; line_index++)
    (p->y ? pool_line : pool_gradient_line)(p, line_index);
}

/* Computes the pool or its gradient. Returns oneDNN's status. The caller holds the lock. */
static int compute_pool(Pool* p) {
  run_on_team(pool_lines, p);
  return 0;
}
