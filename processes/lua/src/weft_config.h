/* Lua's configuration for this engine; luaconf.h includes it last. Not a place for code. */
#ifndef weft_config_h
#define weft_config_h

#include <stddef.h>

/* Errors unwind by the host instead of setjmp: the host calls weft_call(f, L, ud) inside `try`,
 * `throw` unwinds to the innermost one. luaD_throw has written the status before it throws. */
__attribute__((import_module("weft"), import_name("try"))) int weft_try(void *function, void *L, void *ud);
__attribute__((import_module("weft"), import_name("throw"))) _Noreturn void weft_throw(void);
#define LUAI_THROW(L, c) weft_throw()
#define LUAI_TRY(L, c, a) ((void)weft_try((void *)(f), (L), (ud)));
#define luai_jmpbuf int

/* One string hash seed for ever: `pairs` order is part of a process's results. It is that of the aos 2.0.6 module,
 * so that a table built alike is walked alike there and here (node/tests/compat/kernel.mjs relies on it). */
#define luai_makeseed() 0x1b883df6u

/* No clock in a sort's choice of pivot, no signals, no locale. */
#define l_randomizePivot() 0u
#define l_signalT int
#undef lua_getlocaledecpoint
#define lua_getlocaledecpoint() '.'

/* Buffers lie on the C stack, up to 225 C levels of them (LUAI_MAXCCALLS and what error handling adds): stock's 4 KiB
 * would nearly fill the 1 MiB. */
#undef LUAL_BUFFERSIZE
#define LUAL_BUFFERSIZE 1024

/* No output: `print` runs its arguments through tostring and drops them. */
#define lua_writestring(s, l) ((void)(s), (void)(l))
#define lua_writeline() ((void)0)
#define lua_writestringerror(s, p) ((void)(s), (void)(p))

/* build.sh --checked: Lua's own assertions and API checks stop the module. */
#ifdef WEFT_CHECKED
#define lua_assert(condition) ((condition) ? (void)0 : __builtin_trap())
#define luai_apicheck(L, condition) ((void)(L), lua_assert(condition))
#endif

/* number.c: one text per number on every host. */
size_t weft_integer_text(char *buffer, long long value);
size_t weft_float_text(char *buffer, double value);
double weft_one_nan(double value);
#undef lua_number2str
#define lua_number2str(s, sz, n) ((int)weft_float_text((s), (n)))
#undef lua_integer2str
#define lua_integer2str(s, sz, n) ((int)weft_integer_text((s), (n)))

/* identity.c: what tostring shows instead of an address. */
struct lua_State;
void weft_push_identity(struct lua_State *L, int index, const char *kind);

#endif
