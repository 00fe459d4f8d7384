/* What wasi-libc would ask a WASI host for, answered inside the module: there are no files, and abort stops.
 * Its number formatting drags stream code along that never runs; these definitions keep its imports out. */
#include <stdint.h>

enum { NOT_SUPPORTED = 52 };   /* WASI's errno for "function not supported" */

#define INSTEAD_OF(name) __imported_wasi_snapshot_preview1_##name

_Noreturn void abort(void) { __builtin_trap(); }

int32_t INSTEAD_OF(fd_close)(int32_t file) {
  (void)file;
  return NOT_SUPPORTED;
}

int32_t INSTEAD_OF(fd_seek)(int32_t file, int64_t offset, int32_t whence, int32_t at) {
  (void)file, (void)offset, (void)whence, (void)at;
  return NOT_SUPPORTED;
}

int32_t INSTEAD_OF(fd_write)(int32_t file, int32_t parts, int32_t count, int32_t written) {
  (void)file, (void)parts, (void)count, (void)written;
  return NOT_SUPPORTED;
}
