/* What XLA calls for a convolution, a norm or a maximum of windows on the CPU: decodes the call, and has it computed on XLA's own buffers.

   No Python runs here, so no call waits for the interpreter's lock. A convolution is one of three, see plans.h: (images, kernel)
   -> results, (results' gradient, kernel) -> images' gradient, (images, results' gradient) -> kernel's gradient. Each operand may
   have one more axis in front, of convolutions that are computed one after the other; an operand without it serves them all. */
#include "threefry.h"
#include "worker.h"
#include "xla/ffi/api/c_api.h"

enum { SETTINGS = 10 }; /* kind, strides, top, bottom, left, right, dilations, groups */
static char start_error[512];

/* "", or why the library at `path` can't be used. */
const char* jaxcnn_load(const char* path) {
  pthread_mutex_lock(&lock);
  if (!engine && !load(path, start_error, sizeof start_error) && start_worker())
    snprintf(start_error, sizeof start_error, "its thread can't be started");
  pthread_mutex_unlock(&lock);
  return start_error;
}

/* major, minor, patch, instruction set (dnnl_cpu_isa_t). */
void jaxcnn_about(int64_t* about) {
  const Version* v = dnnl.version();
  about[0] = v->major, about[1] = v->minor, about[2] = v->patch, about[3] = dnnl.get_effective_cpu_isa();
}

/* How many calls and images there were of each kind, plans there are, were made and were forgotten; norms and pools. */
void jaxcnn_counters(int64_t* counters) {
  pthread_mutex_lock(&lock);
  for (int kind = 0; kind < 3; kind++) counters[kind] = calls[kind], counters[3 + kind] = images[kind];
  counters[6] = count, counters[7] = made, counters[8] = forgotten, counters[9] = norms, counters[10] = pools;
  pthread_mutex_unlock(&lock);
}

/* Keeps at most so many plans, and forgets those that there are. */
void jaxcnn_keep(int64_t plans_kept) {
  pthread_mutex_lock(&lock);
  while (count) destroy(plans[--count]), forgotten++;
  capacity = plans_kept < 1 ? 1 : plans_kept > MAX_PLANS ? MAX_PLANS : plans_kept;
  pthread_mutex_unlock(&lock);
}

/* The name of the implementation, such as "brgconv:avx512_core" or "ref:any"; "" where it has none. */
void jaxcnn_implementation(const Convolution* c, char* name, size_t size) {
  run(&(Job){.convolution = c, .name = name, .name_size = size});
}

/* One convolution outside XLA. Returns a oneDNN status. */
int jaxcnn_run(const Convolution* c, void* x, void* kernel, void* y) {
  char* const data[] = {x, kernel, y};
  const int64_t steps[3] = {0};
  return run(&(Job){.convolution = c, .times = 1, .data = data, .steps = steps});
}

/* Whether norms and pools can be computed here, of so many channels. */
int jaxcnn_has_threads(int64_t channels) {
  return has_threads() && channels <= MAX_CHANNELS;
}

/* One batch norm, or one layer norm, outside XLA. Returns a oneDNN status. */
int jaxcnn_run_norm(Norm* norm) { return run(&(Job){.norm = norm}); }

int jaxcnn_run_layer_norm(LayerNorm* norm) { return run(&(Job){.layer_norm = norm}); }

void jaxcnn_run_random_bits(const uint32_t* key, int64_t count, uint32_t* bits) { random_bits(key, count, bits); }

static XLA_FFI_Error* fail(XLA_FFI_CallFrame* frame, const char* what, const char* why) {
  char message[256];
  snprintf(message, sizeof message, "jaxcnn: on oneDNN's threads: %s%s", what, why);
  XLA_FFI_Error_Create_Args arguments = {XLA_FFI_Error_Create_Args_STRUCT_SIZE, 0, message, XLA_FFI_Error_Code_INTERNAL};
  return frame->api->XLA_FFI_Error_Create(&arguments);
}

static int64_t size_of(const XLA_FFI_Buffer* b) {
  int64_t size = 1;
  for (int64_t axis = 0; axis < b->rank; axis++) size *= b->dims[axis];
  return size;
}

/* Answers XLA's question which version of its interface this was compiled for. */
static int is_question(XLA_FFI_CallFrame* frame) {
  XLA_FFI_Extension_Base* extension = frame->extension_start;
  if (!extension || extension->type != XLA_FFI_Extension_Metadata) return 0;
  XLA_FFI_Metadata* metadata = ((XLA_FFI_Metadata_Extension*)extension)->metadata;
  metadata->api_version.major_version = XLA_FFI_API_MAJOR;
  metadata->api_version.minor_version = XLA_FFI_API_MINOR;
  metadata->traits = 0;
  metadata->state_type_id.type_id = 0;
  return 1;
}

XLA_FFI_Error* jaxcnn_convolution(XLA_FFI_CallFrame* frame) {
  if (is_question(frame)) return 0;
  if (frame->args.size != 2 || frame->rets.size != 1 || frame->attrs.size != 1 || frame->attrs.types[0] != XLA_FFI_AttrType_ARRAY)
    return fail(frame, "not called as expected", "");
  const XLA_FFI_Array* settings = frame->attrs.attrs[0];
  if (settings->dtype != XLA_FFI_DataType_S64 || settings->size != SETTINGS) return fail(frame, "settings expected", "");
  const int64_t* s = settings->data;
  if (s[0] < FORWARD || s[0] > KERNEL_GRADIENT) return fail(frame, "kind expected", "");

  /* which of operand, operand, result are images, kernel, results */
  static const int order[3][3] = {{0, 1, 2}, {2, 1, 0}, {0, 2, 1}};
  const XLA_FFI_Buffer* given[3] = {frame->args.args[0], frame->args.args[1], frame->rets.rets[0]};
  const XLA_FFI_Buffer* buffers[3];
  const int64_t* dims[3];
  char* data[3];
  int64_t times = given[2]->rank == 5 ? given[2]->dims[0] : 1, steps[3];
  for (int i = 0; i < 3; i++) {
    const XLA_FFI_Buffer* b = buffers[i] = given[order[s[0]][i]];
    int stacked = b->rank == 5;
    if (b->dtype != given[0]->dtype || (b->dtype != XLA_FFI_DataType_F32 && b->dtype != XLA_FFI_DataType_BF16))
      return fail(frame, "float32 or bfloat16 expected", "");
    if ((b->rank != 4 && !stacked) || (stacked && b->dims[0] != times)) return fail(frame, "shapes don't fit", "");
    dims[i] = b->dims + stacked;
    data[i] = b->data;
    int64_t bytes = b->dtype == XLA_FFI_DataType_F32 ? 4 : 2;
    steps[i] = stacked ? bytes * dims[i][0] * dims[i][1] * dims[i][2] * dims[i][3] : 0;
  }
  const int64_t *x = dims[0], *kernel = dims[1], *y = dims[2];
  if (x[0] != y[0] || kernel[3] != y[3] || kernel[2] * s[9] != x[3]) return fail(frame, "shapes don't fit", "");
  Convolution c = {s[0], given[0]->dtype == XLA_FFI_DataType_F32 ? F32 : BF16,
                   x[0], x[1], x[2], x[3], kernel[3], kernel[0], kernel[1], y[1], y[2],
                   {s[1], s[2]}, s[3], s[4], s[5], s[6], {s[7], s[8]}, s[9]};
  int status = run(&(Job){.convolution = &c, .times = times, .data = data, .steps = steps});
  return status ? fail(frame, "", status_name(status)) : 0;
}

/* What a norm is called with, all float32. Operands and results are like x or, where their bit of `narrow` is set, its channels. */
typedef struct {
  int64_t rows, channels;
  float* data[11];
  const float* settings;
} NormCall;

/* Returns what is wrong, or 0. */
static const char* read_norm(NormCall* call, const XLA_FFI_CallFrame* frame, int64_t results, int64_t settings, unsigned narrow) {
  const int64_t operands = frame->args.size;
  if (operands < 3 || operands + results > 11 || frame->rets.size != results || frame->attrs.size != 1 ||
      frame->attrs.types[0] != XLA_FFI_AttrType_ARRAY)
    return "norm not called as expected";
  const XLA_FFI_Array* numbers = frame->attrs.attrs[0];
  if (numbers->dtype != XLA_FFI_DataType_F32 || numbers->size != (size_t)settings) return "other settings expected";
  call->settings = numbers->data;
  const XLA_FFI_Buffer* x = frame->args.args[0];
  if (x->rank < 1) return "channels expected";
  call->channels = x->dims[x->rank - 1], call->rows = 1;
  for (int64_t axis = 0; axis < x->rank - 1; axis++) call->rows *= x->dims[axis];
  for (int64_t i = 0; i < operands + results; i++) {
    const XLA_FFI_Buffer* b = i < operands ? frame->args.args[i] : frame->rets.rets[i - operands];
    if (b->dtype != XLA_FFI_DataType_F32 || size_of(b) != (narrow >> i & 1 ? 1 : call->rows) * call->channels)
      return "shapes or types don't fit";
    call->data[i] = b->data;
  }
  return 0;
}

/* (x, scale, bias) -> (y, mean, var); with (x, scale, bias, mean, var, gradients of y, mean, var) -> those of x, scale, bias. */
XLA_FFI_Error* jaxcnn_norm(XLA_FFI_CallFrame* frame) {
  if (is_question(frame)) return 0;
  const int forward = frame->args.size == 3;
  NormCall call;
  const char* wrong = !forward && frame->args.size != 8 ? "norm not called as expected"
                                                        : read_norm(&call, frame, 3, 3, forward ? 0x36 : 0x6de);
  if (wrong) return fail(frame, wrong, "");
  float** data = call.data;
  Norm n = {.rows = call.rows, .channels = call.channels, .epsilon = call.settings[0], .low = call.settings[1], .high = call.settings[2],
            .x = data[0], .scale = data[1], .bias = data[2]};
  if (forward) {
    n.y = data[3], n.mean = data[4], n.var = data[5];
  } else {
    n.mean = data[3], n.var = data[4], n.y_gradient = data[5], n.mean_gradient = data[6], n.var_gradient = data[7];
    n.x_gradient = data[8], n.scale_gradient = data[9], n.bias_gradient = data[10];
  }
  int status = run(&(Job){.norm = &n});
  return status ? fail(frame, "", status_name(status)) : 0;
}

/* (x, scale, bias) -> y; or (x, scale, y's gradient) -> those of x, scale, bias. */
XLA_FFI_Error* jaxcnn_layer_norm(XLA_FFI_CallFrame* frame) {
  if (is_question(frame)) return 0;
  const int forward = frame->rets.size == 1;
  NormCall call;
  const char* wrong = frame->args.size != 3 ? "norm not called as expected"
                                            : read_norm(&call, frame, forward ? 1 : 3, 1, forward ? 0x6 : 0x32);
  if (wrong) return fail(frame, wrong, "");
  float** data = call.data;
  LayerNorm n = {.rows = call.rows, .channels = call.channels, .epsilon = call.settings[0], .x = data[0], .scale = data[1]};
  if (forward)
    n.bias = data[2], n.y = data[3];
  else
    n.y_gradient = data[2], n.x_gradient = data[3], n.scale_gradient = data[4], n.bias_gradient = data[5];
  int status = run(&(Job){.layer_norm = &n});
  return status ? fail(frame, "", status_name(status)) : 0;
}

/* x -> (y, places); or (y's gradient, places) -> x's gradient. */
XLA_FFI_Error* jaxcnn_pool(XLA_FFI_CallFrame* frame) {
  if (is_question(frame)) return 0;
  const int forward = frame->args.size == 1 && frame->rets.size == 2;
  if ((!forward && (frame->args.size != 2 || frame->rets.size != 1)) || frame->attrs.size != 1 ||
      frame->attrs.types[0] != XLA_FFI_AttrType_ARRAY)
    return fail(frame, "pool not called as expected", "");
  const XLA_FFI_Array* settings = frame->attrs.attrs[0];
  if (settings->dtype != XLA_FFI_DataType_S64 || settings->size != 4) return fail(frame, "size, stride and padding expected", "");
  const int64_t* s = settings->data;
  const XLA_FFI_Buffer *images = forward ? frame->args.args[0] : frame->rets.rets[0];
  const XLA_FFI_Buffer *results = forward ? frame->rets.rets[0] : frame->args.args[0];
  const XLA_FFI_Buffer *places = forward ? frame->rets.rets[1] : frame->args.args[1];
  if (images->dtype != XLA_FFI_DataType_F32 || results->dtype != XLA_FFI_DataType_F32 || places->dtype != XLA_FFI_DataType_U8)
    return fail(frame, "types don't fit", "");
  if (images->rank != 4 || results->rank != 4 || places->rank != 4 || memcmp(results->dims, places->dims, 4 * sizeof *places->dims) ||
      images->dims[0] != results->dims[0] || images->dims[3] != results->dims[3] || s[0] < 1 || s[0] > 15 || s[1] < 1)
    return fail(frame, "shapes don't fit", "");
  Pool p = {.images = images->dims[0], .height = images->dims[1], .width = images->dims[2], .channels = images->dims[3],
            .output_height = results->dims[1], .output_width = results->dims[2], .size = s[0], .stride = s[1], .top = s[2],
            .left = s[3], .place = places->data};
  if (forward)
    p.x = images->data, p.y = results->data;
  else
    p.y_gradient = results->data, p.x_gradient = images->data;
  int status = run(&(Job){.pool = &p});
  return status ? fail(frame, "", status_name(status)) : 0;
}

/* key -> bits; or (key, first number) -> keys. All uint32. On the thread that asks, for nothing here is shared. */
XLA_FFI_Error* jaxcnn_random(XLA_FFI_CallFrame* frame) {
  if (is_question(frame)) return 0;
  const int64_t operands = frame->args.size;
  if (operands < 1 || operands > 2 || frame->rets.size != 1) return fail(frame, "key expected", "");
  const XLA_FFI_Buffer *key = frame->args.args[0], *number = frame->args.args[operands - 1], *result = frame->rets.rets[0];
  if (key->dtype != XLA_FFI_DataType_U32 || number->dtype != XLA_FFI_DataType_U32 || result->dtype != XLA_FFI_DataType_U32)
    return fail(frame, "types don't fit", "");
  if (size_of(key) != 2 || (operands == 2 && (size_of(number) != 1 || size_of(result) % 2))) return fail(frame, "shapes don't fit", "");
  if (operands == 2)
    new_keys(key->data, *(const uint32_t*)number->data, size_of(result) / 2, result->data);
  else
    random_bits(key->data, size_of(result), result->data);
  return 0;
}
