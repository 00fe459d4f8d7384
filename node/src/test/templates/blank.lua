-- {{name}}: a process with one handler. Load it: .load {{name}}.lua

Greeted = Greeted or 0

--- Answers whoever says hello, and counts them.
Handlers.add("hello", "Hello", function(msg)
  Greeted = Greeted + 1
  msg.reply({ Action = "Hello-Back", Data = "Hello, " .. msg.From, Number = tostring(Greeted) })
end)
