/* Lua's allocator. For now wasi-libc's, which is deterministic and knows no host but memory.grow. */
#include <stdlib.h>

#include "weft.h"

void *weft_heap(void *context, void *block, size_t old_bytes, size_t new_bytes) {
  (void)context, (void)old_bytes;
  if (new_bytes) return realloc(block, new_bytes);
  free(block);
  return NULL;
}
