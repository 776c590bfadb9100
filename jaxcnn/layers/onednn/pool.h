/* The maximum of each window and where it was found, and the gradient of that; on the threads that oneDNN has. Images are NHWC.

   Windows are size × size, at most 15 × 15, and positions in one are counted line by line. Padding never wins. Of equal
   numbers the first does, and of NaN and another NaN. */
#include "plans.h"

typedef struct {
  int64_t images, height, width, channels, output_height, output_width, size, stride, top, left;
  const float *x, *y_gradient; /* one of them is 0 */
  float *y, *x_gradient;
  uint8_t* place;
} Pool;

/* Line `unit` of all results' lines. */
VECTORIZED static void pool_line(const Pool* p, int64_t unit) {
  const int64_t channels = p->channels, image = unit / p->output_height, line = unit % p->output_height * p->stride - p->top;
  int32_t found[channels];
  for (int64_t j = 0; j < p->output_width; j++) {
    float* restrict y = p->y + (unit * p->output_width + j) * channels;
    const int64_t column = j * p->stride - p->left;
    for (int64_t c = 0; c < channels; c++) y[c] = -INFINITY, found[c] = 0;
    for (int64_t k = 0; k < p->size * p->size; k++) {
      const int64_t h = line + k / p->size, w = column + k % p->size;
      if (h < 0 || h >= p->height || w < 0 || w >= p->width) continue;
      const float* restrict x = p->x + ((image * p->height + h) * p->width + w) * channels;
      for (int64_t c = 0; c < channels; c++) {
        const int better = (x[c] > y[c]) | (x[c] != x[c]);
        y[c] = better ? x[c] : y[c];
        found[c] = better ? (int32_t)k : found[c];
      }
    }
    uint8_t* restrict place = p->place + (unit * p->output_width + j) * channels;
    for (int64_t c = 0; c < channels; c++) place[c] = (uint8_t)found[c];
  }
}

/* Line `unit` of all images' lines: of each window that sees it, what its maximum had here. */
VECTORIZED static void pool_gradient_line(const Pool* p, int64_t unit) {
  const int64_t channels = p->channels, image = unit / p->height, line = unit % p->height;
  memset(p->x_gradient + unit * p->width * channels, 0, (size_t)(p->width * channels) * sizeof(float));
  for (int64_t a = 0; a < p->size; a++) {
    const int64_t above = line + p->top - a, i = above / p->stride;
    if (above < 0 || above % p->stride || i >= p->output_height) continue;
    for (int64_t j = 0; j < p->output_width; j++) {
      const int64_t at = ((image * p->output_height + i) * p->output_width + j) * channels;
      const float* restrict gradient = p->y_gradient + at;
      const uint8_t* restrict place = p->place + at;
      for (int64_t b = 0; b < p->size; b++) {
        const int64_t w = j * p->stride - p->left + b;
        if (w < 0 || w >= p->width) continue;
        float* restrict x = p->x_gradient + (unit * p->width + w) * channels;
        const int here = (int)(a * p->size + b);
        for (int64_t c = 0; c < channels; c++) x[c] += place[c] == here ? gradient[c] : 0.0f;
      }
    }
  }
}

static void share_of_pool(void* pool, int thread, int threads) {
  const Pool* p = pool;
  const int64_t units = p->images * (p->y ? p->output_height : p->height);
  for (int64_t unit = units * thread / threads; unit < units * (thread + 1) / threads; unit++)
    (p->y ? pool_line : pool_gradient_line)(p, unit);
}

static int compute_pool(Pool* p) {
  in_shares(share_of_pool, p);
  return 0;
}
