---@meta
-- Small helpers for lists and functions, and the matching of messages by patterns. Generated: change api.toml instead.

---@class Utils
Utils = {}

---The version of this library.
---@type string
Utils._version = nil

---Whether a value fits one condition of a pattern.
---@param pattern any
---@param value any
---@param msg Message
---@return boolean
function Utils.matchesPattern(pattern, value, msg) end

---Whether a message fits a pattern.
---@param msg Message
---@param spec Pattern
---@return boolean|any
function Utils.matchesSpec(msg, spec) end

---A function that takes its arguments in as many calls as one likes.
---@param fn function
---@param arity integer
---@return function
function Utils.curry(fn, arity) end

---Two lists, one after the other.
---@param a any[]
---@param b any[]
---@return any[]
function Utils.concat(a, b) end

---One value from a list.
---@param fn fun(result: any, value: any, key: any): any
---@param initial any
---@param list table
---@return any
function Utils.reduce(fn, initial, list) end

---Each value of a list, changed.
---@param fn fun(value: any, key: any): any
---@param list table
---@return table
function Utils.map(fn, list) end

---The values of a list that a function takes.
---@param fn fun(value: any): boolean
---@param list table
---@return table
function Utils.filter(fn, list) end

---The first value of a list that a function takes.
---@param fn fun(value: any): boolean
---@param list table
---@return any
function Utils.find(fn, list) end

---A list from its end.
---@param list any[]
---@return any[]
function Utils.reverse(list) end

---Functions one after another, the last one first.
---@param ... function
---@return function
function Utils.compose(...) end

---A field of a table.
---@param name string
---@param object table
---@return any
function Utils.prop(name, object) end

---Whether a field of a table is a value.
---@param name string
---@param value any
---@param object table
---@return boolean
function Utils.propEq(name, value, object) end

---Whether a list has a value.
---@param value any
---@param list any[]
---@return boolean
function Utils.includes(value, list) end

---The keys of a table.
---@param object table
---@return any[]
function Utils.keys(object) end

---The values of a table.
---@param object table
---@return any[]
function Utils.values(object) end

---`hello` as `Hello`.
---@param text string
---@return string
function Utils.capitalize(text) end

---`x_my-name` as `X-My-Name`, the form of tag names.
---@param text string
---@return string
function Utils.normalize(text) end
