// asterisk-ami-client (npm), with a listener that does nothing for every event.
//
//     node with_asterisk_ami_client.js PORT
"use strict";

const Client = require("asterisk-ami-client");

const client = new Client({ keepAlive: false });
client.on("event", (event) => {
  if (event.Event === "BenchmarkEnd") {
    console.log("{}");
    process.exit(0);
  }
});
client.connect("ami2zammad", "sandbox", { host: "127.0.0.1", port: Number(process.argv[2]) })
  .then(() => console.log("ready"));
