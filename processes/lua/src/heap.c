/* Lua's allocator. Small blocks live in slabs of one size and one 4 KiB page each, so that a message touches few
 * pages; larger ones are wasi-libc's. Deterministic: the same requests give the same addresses.
 * Invariant: whether a block is in a slab follows from its address alone, never from the size Lua remembers. */
#include <stdlib.h>
#include <string.h>

#include "weft.h"

enum {
  SLAB_BYTES = 4096,
  CHUNK_BYTES = 65536,   /* what memory.grow counts in; slabs are cut from whole ones */
  STEP_BYTES = 8,
  SMALL_BYTES_MAX = 256,
  CLASSES = SMALL_BYTES_MAX / STEP_BYTES,
};

typedef struct slab {
  struct slab *next, *previous;   /* in its class's list while it has room, in the pool while empty */
  void *free;                     /* blocks given back, linked through their first word */
  uint16_t class;
  uint16_t used;
  uint16_t untouched;             /* index of the first block never given out */
  uint16_t capacity;
} slab;

static slab *with_room[CLASSES];
static slab *pool;
static uint8_t is_slab_chunk[CHUNK_BYTES / 8];   /* one bit for each chunk of the 4 GiB */

static size_t class_of(size_t bytes) { return (bytes - 1) / STEP_BYTES; }

static size_t block_bytes(size_t class) { return (class + 1) * STEP_BYTES; }

static int in_slab(const void *block) {
  uintptr_t chunk = (uintptr_t)block / CHUNK_BYTES;
  return is_slab_chunk[chunk / 8] >> chunk % 8 & 1;
}

static slab *slab_of(void *block) { return (slab *)((uintptr_t)block & ~(uintptr_t)(SLAB_BYTES - 1)); }

static int has_room(const slab *slab) { return slab->free || slab->untouched < slab->capacity; }

static void link_first(slab **list, slab *slab) {
  slab->previous = NULL;
  slab->next = *list;
  if (*list) (*list)->previous = slab;
  *list = slab;
}

static void unlink_slab(slab **list, slab *slab) {
  if (slab->previous) slab->previous->next = slab->next;
  else *list = slab->next;
  if (slab->next) slab->next->previous = slab->previous;
}

/* wasi-libc's malloc takes all memory that is there at its first call for its own: let that be before ours grows. */
static void claim_memory(void) {
  static void *volatile claimed;
  if (!claimed) claimed = malloc(STEP_BYTES);
}

/* One more chunk for the pool, its first slab first. */
static void grow_pool(void) {
  claim_memory();
  size_t chunk = __builtin_wasm_memory_grow(0, 1);
  if (chunk == (size_t)-1) return;
  is_slab_chunk[chunk / 8] |= (uint8_t)(1 << chunk % 8);
  char *start = (char *)(chunk * CHUNK_BYTES);
  for (int at = CHUNK_BYTES - SLAB_BYTES; at >= 0; at -= SLAB_BYTES) link_first(&pool, (slab *)(start + at));
}

static slab *take_slab(size_t class) {
  if (!pool) grow_pool();
  slab *taken = pool;
  if (!taken) return NULL;
  unlink_slab(&pool, taken);
  taken->free = NULL;
  taken->class = (uint16_t)class;
  taken->used = taken->untouched = 0;
  taken->capacity = (uint16_t)((SLAB_BYTES - sizeof(slab)) / block_bytes(class));
  link_first(&with_room[class], taken);
  return taken;
}

static void *take_block(slab *slab) {
  void *block = slab->free;
  if (block) memcpy(&slab->free, block, sizeof slab->free);
  else block = (char *)(slab + 1) + slab->untouched++ * block_bytes(slab->class);
  slab->used++;
  if (!has_room(slab)) unlink_slab(&with_room[slab->class], slab);
  return block;
}

static void give_block(slab *slab, void *block) {
  if (!has_room(slab)) link_first(&with_room[slab->class], slab);
  memcpy(block, &slab->free, sizeof slab->free);
  slab->free = block;
  if (--slab->used) return;
  unlink_slab(&with_room[slab->class], slab);
  link_first(&pool, slab);
}

/* Small blocks fall back on the large ones' heap when no chunk is to be had. */
static void *allocate(size_t bytes) {
  if (bytes > SMALL_BYTES_MAX) return malloc(bytes);
  size_t class = class_of(bytes);
  slab *slab = with_room[class] ? with_room[class] : take_slab(class);
  return slab ? take_block(slab) : malloc(bytes);
}

static void release(void *block) {
  if (in_slab(block)) give_block(slab_of(block), block);
  else free(block);
}

/* Moves a block. Shrinking cannot fail: the block then stays where it is. */
static void *move(void *block, size_t old_bytes, size_t new_bytes) {
  void *moved = allocate(new_bytes);
  if (!moved) return new_bytes <= old_bytes ? block : NULL;
  memcpy(moved, block, old_bytes < new_bytes ? old_bytes : new_bytes);
  release(block);
  return moved;
}

void *weft_heap(void *context, void *block, size_t old_bytes, size_t new_bytes) {
  (void)context;
  if (!block) return new_bytes ? allocate(new_bytes) : NULL;
  if (!new_bytes) return release(block), NULL;
  if (in_slab(block)) {
    if (new_bytes <= SMALL_BYTES_MAX && class_of(new_bytes) == slab_of(block)->class) return block;
    return move(block, old_bytes, new_bytes);
  }
  return new_bytes <= SMALL_BYTES_MAX ? move(block, old_bytes, new_bytes) : realloc(block, new_bytes);
}
