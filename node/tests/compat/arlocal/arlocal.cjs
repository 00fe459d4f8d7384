// ArLocal on loopback only, on a port of its own: prints the port.
const http = require('node:http');

const listen = http.Server.prototype.listen;
http.Server.prototype.listen = function (port, ...rest) {
  return listen.call(this, port, '127.0.0.1', ...rest);
};
const ArLocal = require('arlocal').default;
const [port, folder] = process.argv.slice(2);
new ArLocal(Number(port), false, folder).start().then(() => console.log(`ready ${port}`));
