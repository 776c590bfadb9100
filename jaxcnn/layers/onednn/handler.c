/* The functions that XLA calls for convolutions, norms, maximum pools and random numbers on the CPU. They decode the call,
   check it, and have the worker compute on XLA's own buffers.

   No Python runs here, so no call waits for the interpreter's lock. A convolution is one of three kinds, see plans.h: (images,
   kernel) -> results, (results' gradient, kernel) -> images' gradient, (images, results' gradient) -> kernel's gradient. An
   operand may have one more axis in front, of convolutions that are computed one after the other. An operand without this axis
   is used by all of them.

   The functions without a call frame are for Python (library.py). Any thread may call any function, after jaxcnn_load. */
#include "threefry.h"
#include "worker.h"
#include "xla/ffi/api/c_api.h"

enum { SETTINGS = 10 }; /* kind, strides, top, bottom, left, right, dilations, groups */
static char load_error[512];

/* Loads oneDNN from `path` and starts the worker, once per process. Returns "", or the reason why this failed. */
const char* jaxcnn_load(const char* path) {
  pthread_mutex_lock(&lock);
  if (!engine && !load_onednn(path, load_error, sizeof load_error) && start_worker())
    snprintf(load_error, sizeof load_error, "its thread cannot be started");
  pthread_mutex_unlock(&lock);
  return load_error;
}

/* Writes oneDNN's version (major, minor, patch) and instruction set (dnnl_cpu_isa_t). */
void jaxcnn_about(int64_t* about) {
  const Version* v = dnnl.version();
  about[0] = v->major, about[1] = v->minor, about[2] = v->patch, about[3] = dnnl.get_effective_cpu_isa();
}

/* Writes the number of calls and of images per kind, of plans now, created and evicted, of norms and of pools. */
void jaxcnn_counters(int64_t* counters) {
  pthread_mutex_lock(&lock);
  for (int kind = 0; kind < 3; kind++) counters[kind] = calls[kind], counters[3 + kind] = images[kind];
  counters[6] = plan_count, counters[7] = plans_created, counters[8] = plans_evicted, counters[9] = norms, counters[10] = pools;
  pthread_mutex_unlock(&lock);
}

/* Deletes all plans and limits their number. */
void jaxcnn_set_plan_capacity(int64_t plans_at_most) {
  pthread_mutex_lock(&lock);
  while (plan_count) destroy_plan(plans[--plan_count]), plans_evicted++;
  plan_capacity = plans_at_most < 1 ? 1 : plans_at_most > MAX_PLANS ? MAX_PLANS : plans_at_most;
  pthread_mutex_unlock(&lock);
}

/* Writes the name of the implementation, such as "brgconv:avx512_core" or "ref:any"; "" if none exists. */
void jaxcnn_implementation(const Convolution* c, char* name, size_t size) {
  run_job(&(Job){.convolution = c, .name = name, .name_size = size});
}

/* Computes one convolution for Python. Returns oneDNN's status. */
int jaxcnn_run(const Convolution* c, void* x, void* kernel, void* y) {
  char* const data[] = {x, kernel, y};
  const int64_t strides[3] = {0};
  return run_job(&(Job){.convolution = c, .repetitions = 1, .data = data, .strides = strides});
}

/* Returns whether norms and pools of so many channels can be computed here. */
int jaxcnn_supports_norms(int64_t channels) {
  return has_openmp() && channels <= MAX_CHANNELS;
}

/* Computes a batch norm or a layer norm for Python. Returns oneDNN's status. */
int jaxcnn_run_norm(Norm* norm) { return run_job(&(Job){.norm = norm}); }

int jaxcnn_run_layer_norm(LayerNorm* norm) { return run_job(&(Job){.layer_norm = norm}); }

void jaxcnn_run_random_bits(const uint32_t* key, int64_t count, uint32_t* bits) { random_bits(key, count, bits); }

/* Returns an error for XLA, which becomes an exception in Python. */
static XLA_FFI_Error* fail(XLA_FFI_CallFrame* frame, const char* what, const char* why) {
  char message[256];
  snprintf(message, sizeof message, "jaxcnn: oneDNN handler: %s%s", what, why);
  XLA_FFI_Error_Create_Args arguments = {XLA_FFI_Error_Create_Args_STRUCT_SIZE, 0, message, XLA_FFI_Error_Code_INTERNAL};
  return frame->api->XLA_FFI_Error_Create(&arguments);
}

static int64_t element_count(const XLA_FFI_Buffer* b) {
  int64_t size = 1;
  for (int64_t axis = 0; axis < b->rank; axis++) size *= b->dims[axis];
  return size;
}

/* Answers XLA's query for the version of its interface that this was compiled for. Returns whether the call was this query. */
static int answer_metadata_query(XLA_FFI_CallFrame* frame) {
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
  if (answer_metadata_query(frame)) return 0;
  if (frame->args.size != 2 || frame->rets.size != 1 || frame->attrs.size != 1 ||
      frame->attrs.types[0] != XLA_FFI_AttrType_ARRAY)
    return fail(frame, "expected 2 operands, 1 result and 1 attribute", "");
  const XLA_FFI_Array* settings = frame->attrs.attrs[0];
  if (settings->dtype != XLA_FFI_DataType_S64 || settings->size != SETTINGS)
    return fail(frame, "expected 10 int64 settings", "");
  const int64_t* s = settings->data;
  if (s[0] < FORWARD || s[0] > KERNEL_GRADIENT) return fail(frame, "unknown kind of convolution", "");

  /* which of the operands and the result, by kind, are images, kernel and results */
  static const int order[3][3] = {{0, 1, 2}, {2, 1, 0}, {0, 2, 1}};
  const XLA_FFI_Buffer* buffers_in_order[3] = {frame->args.args[0], frame->args.args[1], frame->rets.rets[0]};
  const XLA_FFI_Buffer* buffers[3];
  const int64_t* dims[3];
  char* data[3];
  int64_t repetitions = buffers_in_order[2]->rank == 5 ? buffers_in_order[2]->dims[0] : 1, strides[3];
  for (int i = 0; i < 3; i++) {
    const XLA_FFI_Buffer* b = buffers[i] = buffers_in_order[order[s[0]][i]];
    int stacked = b->rank == 5;
    if (b->dtype != buffers_in_order[0]->dtype || (b->dtype != XLA_FFI_DataType_F32 && b->dtype != XLA_FFI_DataType_BF16))
      return fail(frame, "expected float32 or bfloat16, the same for all", "");
    if ((b->rank != 4 && !stacked) || (stacked && b->dims[0] != repetitions)) return fail(frame, "shapes do not match", "");
    dims[i] = b->dims + stacked;
    data[i] = b->data;
    int64_t bytes = b->dtype == XLA_FFI_DataType_F32 ? 4 : 2;
    strides[i] = stacked ? bytes * dims[i][0] * dims[i][1] * dims[i][2] * dims[i][3] : 0;
  }
  const int64_t *x = dims[0], *kernel = dims[1], *y = dims[2];
  if (x[0] != y[0] || kernel[3] != y[3] || kernel[2] * s[9] != x[3]) return fail(frame, "shapes do not match", "");
  Convolution c = {s[0], buffers_in_order[0]->dtype == XLA_FFI_DataType_F32 ? F32 : BF16,
                   x[0], x[1], x[2], x[3], kernel[3], kernel[0], kernel[1], y[1], y[2],
                   {s[1], s[2]}, s[3], s[4], s[5], s[6], {s[7], s[8]}, s[9]};
  int status = run_job(&(Job){.convolution = &c, .repetitions = repetitions, .data = data, .strides = strides});
  return status ? fail(frame, "", status_name(status)) : 0;
}

/* The arguments of a norm, all float32. */
typedef struct {
  int64_t rows, channels;
  float* data[11];
  const float* settings;
} NormCall;

/* Decodes the arguments of a norm. Returns what is wrong with them, or 0. Bit i of `narrow` is set if operand i, or result
   i - the number of operands, has one number per channel; all others have the size of x. */
static const char* read_norm(NormCall* call, const XLA_FFI_CallFrame* frame, int64_t results, int64_t settings,
                             unsigned narrow) {
  const int64_t operands = frame->args.size;
  if (operands < 3 || operands + results > 11 || frame->rets.size != results || frame->attrs.size != 1 ||
      frame->attrs.types[0] != XLA_FFI_AttrType_ARRAY)
    return "unexpected number of operands, results or attributes of a norm";
  const XLA_FFI_Array* numbers = frame->attrs.attrs[0];
  if (numbers->dtype != XLA_FFI_DataType_F32 || numbers->size != (size_t)settings) return "unexpected settings of a norm";
  call->settings = numbers->data;
  const XLA_FFI_Buffer* x = frame->args.args[0];
  if (x->rank < 1) return "expected an axis of channels";
  call->channels = x->dims[x->rank - 1], call->rows = 1;
  for (int64_t axis = 0; axis < x->rank - 1; axis++) call->rows *= x->dims[axis];
  for (int64_t i = 0; i < operands + results; i++) {
    const XLA_FFI_Buffer* b = i < operands ? frame->args.args[i] : frame->rets.rets[i - operands];
    if (b->dtype != XLA_FFI_DataType_F32 || element_count(b) != (narrow >> i & 1 ? 1 : call->rows) * call->channels)
      return "shapes or types do not match";
    call->data[i] = b->data;
  }
  return 0;
}

/* (x, scale, bias) -> (y, mean, var), or (x, scale, bias, mean, var, gradients of y, mean, var) -> those of x, scale, bias. */
XLA_FFI_Error* jaxcnn_norm(XLA_FFI_CallFrame* frame) {
  if (answer_metadata_query(frame)) return 0;
  const int forward = frame->args.size == 3;
  NormCall call;
  const char* wrong = !forward && frame->args.size != 8 ? "expected 3 or 8 operands of a norm"
                                                        : read_norm(&call, frame, 3, 3, forward ? 0x36 : 0x6de);
  if (wrong) return fail(frame, wrong, "");
  float** data = call.data;
  const float* s = call.settings;
  Norm n = {.rows = call.rows, .channels = call.channels, .epsilon = s[0], .low = s[1], .high = s[2], .x = data[0],
            .scale = data[1], .bias = data[2]};
  if (forward) {
    n.y = data[3], n.mean = data[4], n.var = data[5];
  } else {
    n.mean = data[3], n.var = data[4], n.y_gradient = data[5], n.mean_gradient = data[6], n.var_gradient = data[7];
    n.x_gradient = data[8], n.scale_gradient = data[9], n.bias_gradient = data[10];
  }
  int status = run_job(&(Job){.norm = &n});
  return status ? fail(frame, "", status_name(status)) : 0;
}

/* (x, scale, bias) -> y, or (x, scale, y's gradient) -> the gradients of x, scale, bias. */
XLA_FFI_Error* jaxcnn_layer_norm(XLA_FFI_CallFrame* frame) {
  if (answer_metadata_query(frame)) return 0;
  const int forward = frame->rets.size == 1;
  NormCall call;
  const char* wrong = frame->args.size != 3 ? "expected 3 operands of a norm"
                                            : read_norm(&call, frame, forward ? 1 : 3, 1, forward ? 0x6 : 0x32);
  if (wrong) return fail(frame, wrong, "");
  float** data = call.data;
  LayerNorm n = {.rows = call.rows, .channels = call.channels, .epsilon = call.settings[0], .x = data[0], .scale = data[1]};
  if (forward)
    n.bias = data[2], n.y = data[3];
  else
    n.y_gradient = data[2], n.x_gradient = data[3], n.scale_gradient = data[4], n.bias_gradient = data[5];
  int status = run_job(&(Job){.layer_norm = &n});
  return status ? fail(frame, "", status_name(status)) : 0;
}

/* x -> (y, positions), or (y's gradient, positions) -> x's gradient. */
XLA_FFI_Error* jaxcnn_pool(XLA_FFI_CallFrame* frame) {
  if (answer_metadata_query(frame)) return 0;
  const int forward = frame->args.size == 1 && frame->rets.size == 2;
  if ((!forward && (frame->args.size != 2 || frame->rets.size != 1)) || frame->attrs.size != 1 ||
      frame->attrs.types[0] != XLA_FFI_AttrType_ARRAY)
    return fail(frame, "unexpected number of operands, results or attributes of a pool", "");
  const XLA_FFI_Array* settings = frame->attrs.attrs[0];
  if (settings->dtype != XLA_FFI_DataType_S64 || settings->size != 4) return fail(frame, "expected 4 int64 settings", "");
  const int64_t* s = settings->data;
  const XLA_FFI_Buffer *images = forward ? frame->args.args[0] : frame->rets.rets[0];
  const XLA_FFI_Buffer *results = forward ? frame->rets.rets[0] : frame->args.args[0];
  const XLA_FFI_Buffer *positions = forward ? frame->rets.rets[1] : frame->args.args[1];
  if (images->dtype != XLA_FFI_DataType_F32 || results->dtype != XLA_FFI_DataType_F32 ||
      positions->dtype != XLA_FFI_DataType_U8)
    return fail(frame, "types do not match", "");
  if (images->rank != 4 || results->rank != 4 || positions->rank != 4 ||
      memcmp(results->dims, positions->dims, 4 * sizeof *positions->dims) ||
      images->dims[0] != results->dims[0] || images->dims[3] != results->dims[3] || s[0] < 1 || s[0] > 15 || s[1] < 1)
    return fail(frame, "shapes do not match", "");
  Pool p = {.images = images->dims[0], .height = images->dims[1], .width = images->dims[2], .channels = images->dims[3],
            .output_height = results->dims[1], .output_width = results->dims[2], .size = s[0], .stride = s[1], .top = s[2],
            .left = s[3], .position = positions->data};
  if (forward)
    p.x = images->data, p.y = results->data;
  else
    p.y_gradient = results->data, p.x_gradient = images->data;
  int status = run_job(&(Job){.pool = &p});
  return status ? fail(frame, "", status_name(status)) : 0;
}

/* key -> bits, or (key, first number) -> keys, all uint32. Runs on the calling thread, because no state is shared. */
XLA_FFI_Error* jaxcnn_random(XLA_FFI_CallFrame* frame) {
  if (answer_metadata_query(frame)) return 0;
  const int64_t operands = frame->args.size;
  if (operands < 1 || operands > 2 || frame->rets.size != 1) return fail(frame, "expected a key and at most one number", "");
  const XLA_FFI_Buffer *key = frame->args.args[0], *number = frame->args.args[operands - 1], *result = frame->rets.rets[0];
  if (key->dtype != XLA_FFI_DataType_U32 || number->dtype != XLA_FFI_DataType_U32 || result->dtype != XLA_FFI_DataType_U32)
    return fail(frame, "types do not match", "");
  if (element_count(key) != 2 || (operands == 2 && (element_count(number) != 1 || element_count(result) % 2)))
    return fail(frame, "shapes do not match", "");
  if (operands == 2)
    new_keys(key->data, *(const uint32_t*)number->data, element_count(result) / 2, result->data);
  else
    random_bits(key->data, element_count(result), result->data);
  return 0;
}
