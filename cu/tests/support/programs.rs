//! Plain Lua programs: a fixed corpus, and random ones from a seed. Each prints by `emit`.
//! Not here: what they print.

/// Programs over every part of the language and its libraries that both sides define alike.
pub const CORPUS: [&str; 24] = [
    "local s = {} for i = 2, 500 do s[i] = true end for i = 2, 22 do if s[i] then for j = i * i, 500, i do s[j] = false end end end
     local n = 0 for i = 2, 500 do if s[i] then n = n + i end end emit(n)",
    "local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end for i = 0, 20 do emit(fib(i)) end",
    "local N, count = 6, 0 local function ok(a, n, c) for i = 1, n - 1 do if a[i] == c or a[i] - i == c - n or a[i] + i == c + n then return false end end return true end
     local function add(a, n) if n > N then count = count + 1 else for c = 1, N do if ok(a, n, c) then a[n] = c add(a, n + 1) end end end end add({}, 1) emit(count)",
    "local t = {} for i = 1, 200 do t[i] = (i * 7919) % 211 end table.sort(t) emit(table.concat(t, ' ')) table.sort(t, function(a, b) return a % 10 > b % 10 or a % 10 == b % 10 and a < b end) emit(table.concat(t, ','))",
    "emit(pcall(table.sort, {3, 1, 2, 5, 4, 9, 8, 7}, function() return true end))",
    "local gen = coroutine.wrap(function(a) for i = 1, 5 do a = coroutine.yield(i * a) end return 'end' end) for i = 1, 6 do emit(gen(i)) end emit(pcall(gen))",
    "local co = coroutine.create(function() local x <const> = 1 end) emit(co == nil)",
    "local co = coroutine.create(function() coroutine.yield() error({1}) end) emit(coroutine.resume(co), coroutine.status(co)) local ok, e = coroutine.resume(co) emit(ok, type(e), coroutine.status(co)) emit(coroutine.resume(co)) emit(coroutine.isyieldable(), select(2, coroutine.running()))",
    "local V = {} V.__index = V V.__add = function(a, b) return setmetatable({x = a.x + b.x}, V) end V.__eq = function(a, b) return a.x == b.x end V.__lt = function(a, b) return a.x < b.x end V.__le = function(a, b) return a.x <= b.x end V.__call = function(s, y) return s.x * y end V.__concat = function(a, b) return (a.x or a) .. '&' .. (b.x or b) end V.__len = function() return 42 end V.__unm = function(a) return -a.x end V.__tostring = function(a) return 'V' .. a.x end V.__idiv = function() return 'idiv' end V.__band = function() return 'band' end V.__shl = function() return 'shl' end V.__bnot = function() return 'bnot' end
     local a, b = setmetatable({x = 1}, V), setmetatable({x = 2}, V) emit((a + b).x, a == b, a < b, a <= b, a > b, a(5), a .. b, a .. 1, #a, -a, tostring(a), a // 1, a & 1, 1 << a, ~a)",
    "local t = setmetatable({}, {__index = function(t, k) return k .. '!' end, __newindex = function(t, k, v) rawset(t, k, v * 2) end, __pairs = function(t) return function(_, k) if not k then return 1, 'one' end end, t end}) t.x = 4 emit(t.x, t.y, rawget(t, 'y')) for k, v in pairs(t) do emit(k, v) end",
    "for i = 1, 3 do for j = 1, 3 do if j == 2 then goto continue end emit(i, j) ::continue:: end end do local i = 1 ::top:: emit(i) i = i + 1 if i < 4 then goto top end end",
    "emit(math.maxinteger + 1 == math.mininteger, math.maxinteger * 2.0, 1 // 0.0, -1 // 0.0, 5 // -2, -5 // 2, 5 % -3, -5 % 3, 5.5 % -2, -5.5 % 2, 1e15, 1e16, 2^53, 10 / 2, 3 | 4, 7 & 2, 5 ~ 1, ~0, 1 << 63, 1 << 64, -1 >> 1, '10' + 5, '0x10' * 2, '3.0' + 1, 10 .. 20)
     emit(pcall(function() return 1 // 0 end)) emit(pcall(function() return 1 % 0 end)) emit(pcall(function() return 1.5 | 1 end)) emit(pcall(function() return 'a' | 1 end)) emit(pcall(function() return 2^63 | 0 end))",
    "emit(math.type(1), math.type(1.0), math.type('1'), math.tointeger(3.0), math.tointeger(3.5), math.floor(-3.5), math.ceil(-3.5), math.fmod(-5, 3), math.fmod(5.5, -2), math.ult(1, -1), math.abs(math.mininteger), math.max(1, 2.5), math.min(3), math.huge, -math.huge, math.pi) emit(math.modf(3.7), math.modf(-3.7), math.modf(math.huge)) emit(pcall(math.fmod, 1, 0)) emit(pcall(math.floor, 'x'))
     emit(string.format('%.10g %.10g %.10g %.10g %.10g', math.sqrt(2), math.sin(1), math.cos(2), math.exp(1.5), math.log(10)), math.log(8, 2), math.log(1000, 10))",
    "for _, f in ipairs{'%d', '%5d', '%-5d|', '%05d', '%+d', '%x', '%X', '%o', '%c', '%e', '%.3f', '%10.2f|', '%g', '%a', '%s', '%q', '%i', '%u', '%%'} do emit(f, pcall(string.format, f, 65)) end emit(string.format('%q', 'a\\n\\0b\"\\\\\\r'), string.format('%q', 1/3), string.format('%-10s|%10s|%.2s', 'ab', 'cd', 'efg'), string.format('%5.1f|%-8.3e|%g|%g', 3.14159, 12345.678, 1e20, 0.1)) emit(pcall(string.format, '%d', 1.5)) emit(pcall(string.format, '%d')) emit(pcall(string.format, '%y', 1)) emit(string.format('%.14g %.17g %.3a', 0.1, 0.1, 1))",
    "emit(('hello world'):find('o w'), ('hello'):find('l+'), ('hello'):find('xyz'), ('a.b'):find('.', 1, true), ('hello'):match('(h)(.)'), ('key = value'):match('^(%w+)%s*=%s*(%w+)$'), ('THE (quick) fox'):find('%((%a+)%)'), ('f(a(b)c)d'):match('%b()'), ('THE (quick) fox'):gsub('%f[%a]%a+', string.lower), ('abc'):gsub('', '-'), ('abc'):gsub('%w', '%0%0'), ('hello'):gsub('l', {l = 'L'}), ('hello'):gsub('.', function(c) if c == 'e' then return false end return c:upper() end), ('x^2'):gsub('%^', '%%'), ('a,b,,c'):gsub(',', ';', 2)) for w in ('one two  three'):gmatch('%a+') do emit(w) end for k, v in ('a=1, b=2'):gmatch('(%w+)=(%w+)') do emit(k, v) end emit(('abc'):match('()b()')) emit(pcall(string.find, 'a', '[a')) emit(pcall(string.gsub, 'a', 'a', '%2')) emit(pcall(string.rep, 'x', 1 << 40)) emit(pcall(string.match, 'a', '%')) emit(('a\\0b'):len(), ('a\\0b'):find('\\0'))",
    "emit(string.pack('>i4', 100):byte(1, -1)) emit(string.unpack('<i2', '\\1\\2')) emit(string.packsize('i4i8'), string.unpack('z', 'abc\\0def'), string.unpack('s1', '\\3abcd'), #string.pack('d', 1.5), string.unpack('>d', string.pack('>d', -1.25)), string.pack('>I3', 66051):byte(1, -1)) emit(pcall(string.pack, 'i1', 300)) emit(pcall(string.unpack, 'i4', 'abc')) emit(pcall(string.pack, 'i17', 1))",
    "emit(utf8.char(72, 228, 8364, 128512), utf8.len('h\\u{e4}\\u{20ac}'), utf8.codepoint('h\\u{e4}\\u{20ac}', 1, -1), utf8.offset('h\\u{e4}\\u{20ac}', 3), utf8.len('\\xff')) for p, c in utf8.codes('a\\u{e4}') do emit(p, c) end emit(pcall(utf8.codepoint, '\\xff')) emit(#utf8.charpattern)",
    "local t = {1, 2, 3, 4, 5} emit(table.remove(t), table.remove(t, 1), #t, table.concat(t, '-')) table.insert(t, 'x') table.insert(t, 1, 'y') emit(table.concat(t, ' '), table.unpack(t, 2, 4)) emit(table.unpack({1, nil, 3}, 1, 3)) emit(select('#', table.unpack({}, 1, 5)), table.pack(1, nil).n) emit(table.concat(table.move({1, 2, 3}, 1, 3, 2), ',')) emit(pcall(table.insert, {1}, 5, 2)) emit(pcall(table.concat, {1, {}, 3})) emit(pcall(table.insert, {}, 1, 2, 3)) emit(next({}), #'', rawlen({1, 2}), rawequal('a', 'a'))",
    "emit(pcall(error)) emit(pcall(error, 'text', 0)) emit(pcall(error, 'text', 2)) emit(pcall(error, {1}) == false) emit(xpcall(function() error('x') end, function(m) return 'handled ' .. m end)) emit(xpcall(function(...) return ... end, print, 1, 2)) emit(pcall(pcall)) emit(pcall(pcall, error)) emit(select(2, pcall(function() local a = {} return a.b.c end)), select(2, pcall(function() return nothing() end)), select(2, pcall(function() return #5 end)), select(2, pcall(function() return {} < {} end)), select(2, pcall(function() return 1 < '2' end)), select(2, pcall(function() return {} .. 'x' end)), select(2, pcall(function() local s = 'x' s.y.z = 1 end)), select(2, pcall(setmetatable, 1, {})))",
    "emit(load('return 1 + 1')()) emit(load('x = = 1')) emit(load('return ...', 'chunk', 't', {})(5)) emit(load(function() return nil end)) local parts, i = {'return ', '4', '2'}, 0 emit(load(function() i = i + 1 return parts[i] end)()) emit(load('error(\"in\")', '=named')) emit(pcall(load('error(\"in\")', '=named'))) emit(pcall(load('local x <close> = 1') or error)) for _, bad in ipairs{'for', 'return return', 'local function', 'x = }', '\"open', 'goto nowhere', 'break', '::a:: ::a::', 'a.b:c = 1', 'x = 0x', 'x = 1e', '[[open', '--[[open', 'f(', '\\\\'} do emit(load(bad, '=bad')) end",
    "emit(tostring(nil), tostring(true), tostring(1e100), tostring(-0.0), tostring(1e300 * 1e10), tostring(123456789012345678)) emit(tonumber('0x1p4'), tonumber('1e1'), tonumber(' 12 '), tonumber('12a'), tonumber('z', 36), tonumber('ff', 16), tonumber('8', 8), tonumber('1_0'), tonumber(''), tonumber('0x'), tonumber('1 2'), tonumber('9223372036854775808'), tonumber('-9223372036854775808'), tonumber('0xffffffffffffffff'), tonumber('inf'), tonumber('nan')) emit(pcall(tonumber, '1', 99)) emit(pcall(tonumber))",
    "local function v(...) local a, b = ... return select('#', ...), a, b, ... end emit(v()) emit(v(nil, nil)) emit((v(1, 2, 3))) emit(select(-1, 1, 2, 3), select(2, 'a', 'b', 'c')) emit(pcall(select, 0)) local function tail(n) if n == 0 then return 'done' end return tail(n - 1) end emit(tail(100000)) local function deep(n) if n == 0 then return 0 end return 1 + deep(n - 1) end emit(deep(10000)) emit((pcall(function() local function f() return 1 + f() end return f() end)))",
    "local function counter() local n = 0 return function() n = n + 1 return n end, function() return n end end local up, get = counter() up() up() emit(get()) local fs = {} for i = 1, 3 do fs[i] = function() i = i + 1 return i end end emit(fs[1](), fs[1](), fs[2]()) local a <const> = 1",
    "local t = {} for i = 1, 10 do t[i] = i end t[5] = nil local s = 0 for i, v in ipairs(t) do s = s + v end emit(s) for i = 10, 1, -3 do emit(i) end for i = 1, 0 do emit('never') end for i = 1.0, 2, 0.5 do emit(i) end emit(pcall(function() for i = 1, 10, 0 do return 'looped' end return 'not' end)) emit(pcall(function() for i = 'a', 2 do end end)) for i = math.maxinteger - 2, math.maxinteger - 1 do emit(i) end",
];

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % n as u64) as usize
    }

    fn pick(&mut self, list: &[&str]) -> String {
        list[self.below(list.len())].to_owned()
    }

    /// A number, or something that fails to be one.
    fn number(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.pick(&[
                "0",
                "1",
                "-1",
                "7",
                "255",
                "3.5",
                "-0.25",
                "1e3",
                "math.maxinteger",
                "math.mininteger",
                "0x7f",
                "1e308",
                "a",
                "b",
                "c",
                "x",
                "t[1]",
                "t[2]",
                "#t",
                "#s",
            ]);
        }
        let (one, two) = (self.number(depth - 1), self.number(depth - 1));
        match self.below(12) {
            0..=4 => {
                let operator = self.pick(&["+", "-", "*", "/", "//", "%", "&", "|", "~", "<<", ">>"]);
                format!("({one} {operator} {two})")
            }
            5 => format!("(-{one})"),
            6 => format!("(~{one})"),
            7 => {
                let function = self.pick(&["floor", "ceil", "abs", "tointeger", "sqrt", "type"]);
                format!("math.{function}({one})")
            }
            8 => {
                let function = self.pick(&["max", "min", "fmod", "ult"]);
                format!("math.{function}({one}, {two})")
            }
            9 => format!("tonumber({})", self.text(depth - 1)),
            10 => format!("#{}", self.text(depth - 1)),
            _ => format!("({} and {one} or {two})", self.truth(depth - 1)),
        }
    }

    /// A text of ASCII.
    fn text(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.pick(&[
                "'abc'",
                "''",
                "'0x10'",
                "' 12 '",
                "'a b,c;d'",
                "s",
                "'%d+'",
                "'ABCabc123'",
                "'3.5e2'",
            ]);
        }
        let (one, two, n) = (self.text(depth - 1), self.text(depth - 1), self.number(depth - 1));
        match self.below(12) {
            0 | 1 => format!("({one} .. {two})"),
            2 => format!("({one}):rep({} % 5)", self.number(0)),
            3 => format!("({one}):sub({}, {})", self.number(0), self.number(0)),
            4 => {
                let method = self.pick(&["upper", "lower", "reverse"]);
                format!("({one}):{method}()")
            }
            5 => {
                let format = self.pick(&[
                    "%d", "%5.2f", "%x", "%s", "%q", "%g", "%10s", "%-6d|", "%.3s", "%i", "%c%%",
                ]);
                format!("string.format('{format}', {n})")
            }
            6 => {
                let pattern = self.pick(&[
                    "%w", "[abc]", "(%a)(%d)", "%s*", "b?c", ".-c", "^a", "%d+", "[^%w]", "%f[%w]",
                ]);
                let by = self.pick(&["'<%0>'", "'%1'", "'x'", "string.upper", "{ a = 'A', b = false }"]);
                format!("(({one}):gsub('{pattern}', {by}))")
            }
            7 => format!("tostring({n})"),
            8 => format!("table.concat(t, {one})"),
            9 => format!("(({one}):match({two}) or '-')"),
            10 => format!("tostring(({one}):find({two}, 1, {}))", self.truth(0)),
            _ => format!("({} and {one} or {two})", self.truth(depth - 1)),
        }
    }

    fn truth(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.pick(&["true", "false", "nil", "x", "t[9]"]);
        }
        match self.below(4) {
            0 => {
                let operator = self.pick(&["<", "<=", ">", ">=", "==", "~="]);
                format!(
                    "({} {operator} {})",
                    self.number(depth - 1),
                    self.number(depth - 1)
                )
            }
            1 => {
                let operator = self.pick(&["<", "<=", "==", "~="]);
                format!("({} {operator} {})", self.text(depth - 1), self.text(depth - 1))
            }
            2 => format!("(not {})", self.truth(depth - 1)),
            _ => {
                let operator = self.pick(&["and", "or"]);
                format!("({} {operator} {})", self.truth(depth - 1), self.truth(depth - 1))
            }
        }
    }

    fn value(&mut self, depth: usize) -> String {
        match self.below(5) {
            0 | 1 => self.number(depth),
            2 | 3 => self.text(depth),
            _ => self.truth(depth),
        }
    }

    fn statement(&mut self, depth: usize) -> String {
        let value = self.value(2);
        match self.below(14) {
            0..=3 => format!("emit(pcall(function() return {} end))", self.value(3)),
            4 | 5 => format!("a, b, c = {}, {}, a", self.number(1), self.number(1)),
            6 => format!("t[#t + 1] = {}", self.number(1)),
            7 => format!("s = ({}):sub(1, 40)", self.text(2)),
            8 if depth > 0 => {
                let body = self.block(depth - 1);
                let otherwise = self.block(depth - 1);
                format!("if {} then {body} else {otherwise} end", self.truth(2))
            }
            9 if depth > 0 => format!(
                "for x = 1, {} do {} end",
                1 + self.below(4),
                self.block(depth - 1)
            ),
            10 if depth > 0 => format!(
                "emit(pcall(function(x) {} return x end, {value}))",
                self.block(depth - 1)
            ),
            11 if depth > 0 => {
                let body = self.block(depth - 1);
                format!(
                    "local co = coroutine.wrap(function(x) {body} coroutine.yield({value}) return x end) emit(pcall(co, 1)) emit(pcall(co, 2)) emit(pcall(co, 3))"
                )
            }
            12 => format!("emit(pcall(table.remove, t, {}), #t)", self.number(0)),
            _ => format!("emit(pcall(error, {value}, {}))", self.below(3)),
        }
    }

    fn block(&mut self, depth: usize) -> String {
        let count = 1 + self.below(4);
        let statements: Vec<String> = (0..count).map(|_| self.statement(depth)).collect();
        format!("do {} end", statements.join("\n"))
    }
}

/// The program of a seed.
pub fn random(seed: u64) -> String {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    (0..8).for_each(|_| {
        random.below(2);
    });
    let body: Vec<String> = (0..8).map(|_| random.block(2)).collect();
    format!(
        "local a, b, c, s, t = 1, 2.5, -3, 'start', {{ 10, 20.5, 'x' }}\n{}",
        body.join("\n")
    )
}
