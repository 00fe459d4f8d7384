-- must: answer ok
collectgarbage("setpause", 0) collectgarbage("setstepmul", 1) collectgarbage("stop")
for i = 1, 10000 do local t = { i } end
collectgarbage("restart") collectgarbage("setpause", 200) collectgarbage("setstepmul", 200)
return type(collectgarbage("count")) == "number" and "ok"
