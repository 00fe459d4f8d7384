//! Files, environment, dates: the imports that a C library makes system calls of.
//! Here guest memory meets `disk` and `time`; nothing is decided. Invariant: errors are numbers, as the field gives them.

use super::disk::{self, Device, EACCES, EINVAL, ENOENT, ENOTTY, ERANGE, Errno, Node, Status};
use super::text::Guest;
use super::time::{self, Tm};
use super::{Call, Host, Reply};
use wasmtime::{Caller, Val};

/// Where relative paths start.
const CWD: &str = "/";
/// `dirfd` for "the current folder".
const AT_CWD: i32 = -100;
/// The environment that older loaders hand out.
const ENVIRONMENT: [&str; 7] = [
    "USER=web_user",
    "LOGNAME=web_user",
    "PATH=/",
    "PWD=/",
    "HOME=/home/web_user",
    "LANG=C.UTF-8",
    "_=thisProgram",
];

/// A call's failure: a number for the guest, or the end of the message.
enum Failure {
    Number(Errno),
    Trap(wasmtime::Error),
}

impl From<Errno> for Failure {
    fn from(e: Errno) -> Failure {
        Failure::Number(e)
    }
}

impl From<wasmtime::Error> for Failure {
    fn from(e: wasmtime::Error) -> Failure {
        Failure::Trap(e)
    }
}

type Result<T> = std::result::Result<T, Failure>;

pub fn string(caller: &mut Caller<'_, Host>, at: u64) -> wasmtime::Result<String> {
    Guest(caller).string(at)
}

/// Answers a call. System calls give a negative error number, the `fd_*` family a positive one.
pub fn answer(call: Call, caller: &mut Caller<'_, Host>, words: &[u64]) -> wasmtime::Result<Reply> {
    let mut guest = Guest(caller);
    let args = Args(words);
    let positive = matches!(
        call,
        Call::Close | Call::Read | Call::Write | Call::Seek | Call::Sync | Call::StreamStatus
    );
    let outcome = match call {
        Call::EnvironSizes | Call::Environ => environment(&mut guest, call, &args).map_err(Failure::from),
        Call::TimeZone | Call::Utc | Call::MakeTime | Call::FormatTime => {
            dates(&mut guest, call, &args).map_err(Failure::from)
        }
        _ if positive => streams(&mut guest, call, &args),
        _ => paths(&mut guest, call, &args),
    };
    match outcome {
        Ok(n) => Ok(Reply::Int(n)),
        Err(Failure::Number(e)) if positive => Ok(Reply::Int(e.0 as u64)),
        Err(Failure::Number(e)) => Ok(Reply::Int(-(e.0 as i64) as u64)),
        Err(Failure::Trap(e)) => Err(e),
    }
}

/// The arguments; what is missing reads as 0.
struct Args<'a>(&'a [u64]);

impl Args<'_> {
    fn word(&self, i: usize) -> u64 {
        self.0.get(i).copied().unwrap_or(0)
    }

    fn int(&self, i: usize) -> i32 {
        self.word(i) as i32
    }

    /// A 64-bit number, which 32-bit modules pass as two words.
    fn long(&self, i: usize, split: bool) -> i64 {
        let high = if split { self.word(i + 1) << 32 } else { 0 };
        (self.word(i) | high) as i64
    }
}

fn disk<'a>(guest: &'a mut Guest<'_, '_>) -> &'a mut disk::Disk {
    &mut guest.0.data_mut().state.disk
}

// ---- paths and descriptors ----

fn paths(guest: &mut Guest<'_, '_>, call: Call, a: &Args<'_>) -> Result<u64> {
    match call {
        Call::System => Ok(if a.word(0) == 0 { 0 } else { -52i64 as u64 }),
        Call::SystemOld => Ok(if a.word(0) == 0 { 0 } else { -1i64 as u64 }),
        Call::Unmap => Ok(0),
        Call::Chmod => existing(guest, a.word(0)),
        Call::RemoveFolder => {
            let path = path(guest, AT_CWD, a.word(0))?;
            Ok(disk(guest).remove_folder(&path).map(|()| 0)?)
        }
        Call::StatPath => {
            let path = path(guest, AT_CWD, a.word(0))?;
            let status = disk(guest).status(&path)?;
            put_status(guest, a.word(1), &status)
        }
        Call::Cwd => cwd(guest, a.word(0), a.word(1)),
        Call::Dup3 if a.int(0) == a.int(1) => Err(EINVAL.into()),
        Call::Dup3 => Ok(disk(guest).duplicate_onto(a.int(0), a.int(1))? as u64),
        Call::Fcntl => fcntl(guest, a),
        Call::Ioctl => ioctl(guest, a),
        Call::Fchmod | Call::Fchown => Ok(disk(guest).stream(a.int(0)).map(|_| 0)?),
        Call::StatStream => {
            let status = disk(guest).status_of_stream(a.int(0))?;
            put_status(guest, a.word(1), &status)
        }
        Call::Truncate => {
            let split = a.0.len() == 3;
            Ok(disk(guest).truncate(a.int(0), a.long(1, split)).map(|()| 0)?)
        }
        _ => paths_at(guest, call, a),
    }
}

/// The calls whose first argument is a folder's descriptor.
fn paths_at(guest: &mut Guest<'_, '_>, call: Call, a: &Args<'_>) -> Result<u64> {
    let name = path(guest, a.int(0), a.word(1))?;
    match call {
        Call::Access => Ok(disk(guest).status(&name).map(|_| 0)?),
        Call::StatAt => {
            let status = disk(guest).status(&name)?;
            put_status(guest, a.word(2), &status)
        }
        Call::MakeFolder => Ok(disk(guest).make_folder(&name).map(|()| 0)?),
        Call::OpenAt => Ok(disk(guest).open(&name, a.int(2))? as u64),
        Call::ReadLink => Ok(disk(guest)
            .status(&name)
            .map_err(Failure::from)
            .and(Err(EINVAL.into()))?),
        Call::Rename => {
            let to = path(guest, a.int(2), a.word(3))?;
            Ok(disk(guest).rename(&name, &to).map(|()| 0)?)
        }
        Call::Unlink if a.int(2) == 512 => Ok(disk(guest).remove_folder(&name).map(|()| 0)?),
        Call::Unlink => Ok(disk(guest).unlink(&name).map(|()| 0)?),
        Call::SetTimes => Ok(disk(guest).status(&name).map(|_| 0)?),
        _ => Err(EACCES.into()),
    }
}

/// The path at an address, made absolute from a folder's descriptor.
fn path(guest: &mut Guest<'_, '_>, folder: i32, at: u64) -> Result<String> {
    let text = guest.string(at)?;
    if text.is_empty() {
        return Err(ENOENT.into());
    }
    if folder == AT_CWD || text.starts_with('/') {
        return Ok(disk::absolute(CWD, &text));
    }
    let base = disk(guest).stream(folder)?.path.clone();
    Ok(disk::absolute(&base, &text))
}

fn existing(guest: &mut Guest<'_, '_>, at: u64) -> Result<u64> {
    let path = path(guest, AT_CWD, at)?;
    Ok(disk(guest).status(&path).map(|_| 0)?)
}

fn cwd(guest: &mut Guest<'_, '_>, at: u64, size: u64) -> Result<u64> {
    match size {
        0 => Err(EINVAL.into()),
        1 => Err(ERANGE.into()),
        _ => {
            guest.write(at, b"/\0")?;
            Ok(2)
        }
    }
}

/// File kinds, modes and sizes; times are 0, owners nobody.
fn put_status(guest: &mut Guest<'_, '_>, at: u64, status: &Status) -> Result<u64> {
    let wide = guest.pointer_bytes() == 8;
    let mut out = vec![0u8; if wide { 104 } else { 96 }];
    let mut put = |offset: usize, bytes: &[u8]| out[offset..offset + bytes.len()].copy_from_slice(bytes);
    let blocks = status.size.div_ceil(4096) as u32;
    put(0, &1u32.to_le_bytes());
    put(4, &status.mode.to_le_bytes());
    put(8, &1u32.to_le_bytes());
    let (size, block, number) = if wide { (32, 40, 96) } else { (24, 32, 88) };
    put(size, &status.size.to_le_bytes());
    put(block, &4096u32.to_le_bytes());
    put(block + 4, &blocks.to_le_bytes());
    put(number, &status.number.to_le_bytes());
    guest.write(at, &out)?;
    Ok(0)
}

fn fcntl(guest: &mut Guest<'_, '_>, a: &Args<'_>) -> Result<u64> {
    let flags = disk(guest).stream(a.int(0))?.flags;
    match a.int(1) {
        0 => {
            let least = guest.u32(a.word(2))? as i32;
            let least = u32::try_from(least).map_err(|_| EINVAL)?;
            Ok(disk(guest).duplicate(a.int(0), least)? as u64)
        }
        1 | 2 | 6 | 7 => Ok(0),
        3 => Ok(flags as u64),
        4 => {
            let more = guest.u32(a.word(2))? as i32;
            Ok(disk(guest).add_flags(a.int(0), more).map(|()| 0)?)
        }
        // Nobody holds a lock (F_UNLCK).
        5 => {
            let lock = guest.pointer(a.word(2))?;
            guest.write(lock, &2u16.to_le_bytes())?;
            Ok(0)
        }
        _ => Err(EINVAL.into()),
    }
}

/// Terminals answer the few questions that C libraries ask; nothing else does.
fn ioctl(guest: &mut Guest<'_, '_>, a: &Args<'_>) -> Result<u64> {
    let terminal = disk(guest).is_terminal(a.int(0))?;
    match a.int(1) {
        21505..=21512 | 21515 | 21519 | 21520 | 21523 | 21524 if !terminal => Err(ENOTTY.into()),
        21505..=21512 | 21515 | 21524 => Ok(0),
        21519 => {
            let at = guest.pointer(a.word(2))?;
            guest.put_u32(at, 0)?;
            Ok(0)
        }
        21523 => {
            let at = guest.pointer(a.word(2))?;
            guest.write(at, &[24, 0, 80, 0])?;
            Ok(0)
        }
        _ => Err(EINVAL.into()),
    }
}

// ---- streams ----

fn streams(guest: &mut Guest<'_, '_>, call: Call, a: &Args<'_>) -> Result<u64> {
    let fd = a.int(0);
    match call {
        Call::Close => Ok(disk(guest).close(fd).map(|()| 0)?),
        Call::Sync => Ok(disk(guest).stream(fd).map(|_| 0)?),
        Call::Read => {
            let mut total = 0;
            for (at, length) in guest.buffers(a.word(1), a.word(2))? {
                let bytes = disk(guest).read(fd, length)?;
                guest.write(at, &bytes)?;
                total += bytes.len() as u64;
                if bytes.len() < length {
                    break;
                }
            }
            guest.put_pointer(a.word(3), total)?;
            Ok(0)
        }
        Call::Write => {
            let mut total = 0;
            for (at, length) in guest.buffers(a.word(1), a.word(2))? {
                let bytes = guest.read(at, length)?.to_vec();
                total += disk(guest).write(fd, &bytes)? as u64;
            }
            guest.put_pointer(a.word(3), total)?;
            Ok(0)
        }
        Call::Seek => {
            let split = a.0.len() == 5;
            let next = if split { 3 } else { 2 };
            let position = disk(guest).seek(fd, a.long(1, split), a.int(next))?;
            guest.put_u64(a.word(next + 1), position)?;
            Ok(0)
        }
        _ => stream_status(guest, fd, a.word(1)),
    }
}

fn stream_status(guest: &mut Guest<'_, '_>, fd: i32, at: u64) -> Result<u64> {
    let kind = match &disk(guest).stream(fd)?.node {
        Node::Device(Device::Terminal) => 2,
        Node::Folder => 3,
        _ => 4,
    };
    let mut out = [0u8; 24];
    out[0] = kind;
    guest.write(at, &out)?;
    Ok(0)
}

// ---- environment and dates ----

fn environment(guest: &mut Guest<'_, '_>, call: Call, a: &Args<'_>) -> wasmtime::Result<u64> {
    let strings: &[&str] = if guest.0.data().format.has_environment() {
        &ENVIRONMENT
    } else {
        &[]
    };
    if call == Call::EnvironSizes {
        guest.put_pointer(a.word(0), strings.len() as u64)?;
        let bytes = strings.iter().map(|s| s.len() as u64 + 1).sum();
        guest.put_pointer(a.word(1), bytes)?;
        return Ok(0);
    }
    let (width, mut at) = (guest.pointer_bytes(), a.word(1));
    for (i, text) in strings.iter().enumerate() {
        guest.put_pointer(a.word(0) + i as u64 * width, at)?;
        guest.write(at, text.as_bytes())?;
        guest.write(at + text.len() as u64, &[0])?;
        at += text.len() as u64 + 1;
    }
    Ok(0)
}

fn dates(guest: &mut Guest<'_, '_>, call: Call, a: &Args<'_>) -> wasmtime::Result<u64> {
    match call {
        Call::TimeZone => time_zone(guest, a),
        Call::Utc => {
            let (seconds, at) = time_argument(guest, a)?;
            put_tm(guest, at, &time::utc(seconds))
        }
        Call::MakeTime => make_time(guest, a.word(0)),
        _ => format_time(guest, a),
    }
}

/// The zone is UTC and has no summer time.
fn time_zone(guest: &mut Guest<'_, '_>, a: &Args<'_>) -> wasmtime::Result<u64> {
    if !guest.0.data().format.runs_main() {
        guest.put_pointer(a.word(0), 0)?;
        guest.put_u32(a.word(1), 0)?;
        guest.write(a.word(2), b"UTC\0")?;
        guest.write(a.word(3), b"UTC\0")?;
    }
    Ok(0)
}

/// Seconds and the address of the result: by value, in one or two words, or in the oldest glue by address.
fn time_argument(guest: &Guest<'_, '_>, a: &Args<'_>) -> wasmtime::Result<(i64, u64)> {
    if a.0.len() == 3 {
        return Ok((a.long(0, true), a.word(2)));
    }
    if guest.pointer_bytes() == 8 {
        return Ok((a.long(0, false), a.word(1)));
    }
    Ok((guest.u32(a.word(0))? as i32 as i64, a.word(1)))
}

fn put_tm(guest: &mut Guest<'_, '_>, at: u64, tm: &Tm) -> wasmtime::Result<u64> {
    let fields = [
        tm.sec, tm.min, tm.hour, tm.mday, tm.mon, tm.year, tm.wday, tm.yday, 0,
    ];
    let bytes: Vec<u8> = fields.iter().flat_map(|f| f.to_le_bytes()).collect();
    guest.write(at, &bytes)?;
    let offset = if guest.pointer_bytes() == 8 { 40 } else { 36 };
    guest.put_pointer(at.wrapping_add(offset), 0)?;
    Ok(0)
}

fn get_tm(guest: &Guest<'_, '_>, at: u64) -> wasmtime::Result<Tm> {
    let field = |i: u64| guest.u32(at.wrapping_add(4 * i)).map(|x| x as i32);
    Ok(Tm {
        sec: field(0)?,
        min: field(1)?,
        hour: field(2)?,
        mday: field(3)?,
        mon: field(4)?,
        year: field(5)?,
        wday: field(6)?,
        yday: field(7)?,
    })
}

/// Normalises the fields in place; the high word of a 32-bit module's result goes where its glue puts it.
fn make_time(guest: &mut Guest<'_, '_>, at: u64) -> wasmtime::Result<u64> {
    let seconds = time::seconds(&get_tm(guest, at)?);
    if let Some(seconds) = seconds {
        let tm = time::utc(seconds);
        let fields = [
            tm.sec, tm.min, tm.hour, tm.mday, tm.mon, tm.year, tm.wday, tm.yday, 0,
        ];
        let bytes: Vec<u8> = fields.iter().flat_map(|f| f.to_le_bytes()).collect();
        guest.write(at, &bytes)?;
    }
    let result = seconds.unwrap_or(-1) as u64;
    if let Some(set_high_word) = guest.0.data().handles().set_high_word {
        set_high_word.call(&mut *guest.0, &[Val::I32((result >> 32) as i32)], &mut [])?;
    }
    Ok(result)
}

fn format_time(guest: &mut Guest<'_, '_>, a: &Args<'_>) -> wasmtime::Result<u64> {
    let (at, room) = (a.word(0), a.word(1));
    let pattern = guest.string(a.word(2))?;
    let tm = get_tm(guest, a.word(3))?;
    let zone_offset = if guest.pointer_bytes() == 8 { 48 } else { 40 };
    let zone = match guest.pointer(a.word(3).wrapping_add(zone_offset))? {
        0 => String::new(),
        pointer => guest.string(pointer)?,
    };
    let mut text = time::format(&pattern, &tm, &zone).into_bytes();
    text.push(0);
    if text.len() as u64 > room {
        return Ok(0);
    }
    guest.write(at, &text)?;
    Ok(text.len() as u64 - 1)
}
