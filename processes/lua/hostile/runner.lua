-- The module that hostile programs run in: a message's Data is a chunk, its first value is the answer.
function handle(msg)
  local chunk, why = load(msg.Data, "=hostile")
  if not chunk then return { Error = why } end
  return { Output = { data = chunk() } }
end
