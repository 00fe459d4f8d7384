-- `require(".crypto")`: the crypto library under the name that programs use.
-- Everything is in crypto/init.lua; this file is the name alone.

return require(".crypto.init")
