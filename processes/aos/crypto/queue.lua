-- A first-in, first-out queue. getHead and getTail are counts, as in aos: elements pushed and popped since
-- the last reset.

return function()
  local elements, head, tail = {}, 0, 0
  local queue = {}

  function queue.push(element)
    elements[head] = element
    head = head + 1
  end

  function queue.pop()
    if tail == head then return nil end
    local element = elements[tail]
    elements[tail] = nil
    tail = tail + 1
    return element
  end

  function queue.size() return head - tail end
  function queue.getHead() return head end
  function queue.getTail() return tail end
  function queue.reset() elements, head, tail = {}, 0, 0 end

  return queue
end
