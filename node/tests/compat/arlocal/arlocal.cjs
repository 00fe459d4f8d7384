// ArLocal on loopback only: arguments are its port and a folder. Prints `ready` once it listens.
const http = require('node:http');

const listen = http.Server.prototype.listen;
http.Server.prototype.listen = function (port, ...rest) {
  this.once('listening', () => console.log('ready'));
  return listen.call(this, port, '127.0.0.1', ...rest);
};
const ArLocal = require('arlocal').default;
const [port, folder] = process.argv.slice(2);
new ArLocal(Number(port), false, folder).start();
