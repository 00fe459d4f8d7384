// The part of sqlite3's interface that ArLocal's query builder calls, in memory, over SQLite compiled to
// WebAssembly: the real package must be compiled for each machine. Not here: files.
const initSqlJs = require('sql.js');

const databases = new Map();
let engine;

const bound = (value) => {
  if (value === undefined) return null;
  if (typeof value === 'boolean') return Number(value);
  if (value instanceof Date) return value.getTime();
  return value;
};

const shown = (row) => {
  for (const [name, value] of Object.entries(row)) {
    if (value instanceof Uint8Array) row[name] = Buffer.from(value);
  }
  return row;
};

class Database {
  constructor(name, flags, done = flags) {
    engine ??= initSqlJs();
    engine.then(({ Database }) => {
      if (!databases.has(name)) databases.set(name, new Database());
      this.db = databases.get(name);
      done(null);
    }, done);
  }

  run(sql, values, done) {
    this.all(sql, values, done);
  }

  all(sql, values = [], done) {
    let rows = [];
    try {
      const statement = this.db.prepare(sql);
      try {
        statement.bind(values.map(bound));
        while (statement.step()) rows.push(shown(statement.getAsObject()));
      } finally {
        statement.free();
      }
    } catch (error) {
      return done.call({}, error);
    }
    const lastID = this.db.exec('select last_insert_rowid()')[0].values[0][0];
    done.call({ lastID, changes: this.db.getRowsModified() }, null, rows);
  }

  close(done) {
    done(null);
  }
}

module.exports = { Database, OPEN_READWRITE: 2, OPEN_CREATE: 4 };
