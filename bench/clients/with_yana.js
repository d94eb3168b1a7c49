// yana (npm), with a listener that does nothing for every event.
//
//     node with_yana.js PORT
"use strict";

const AMI = require("yana");

const ami = new AMI({
  host: "127.0.0.1", port: Number(process.argv[2]), login: "ami2zammad", password: "sandbox",
  events: "on", reconnect: false,
});
ami.on("event", (event) => {
  if (event.event === "BenchmarkEnd" || event.Event === "BenchmarkEnd") {
    console.log("{}");
    process.exit(0);
  }
});
ami.connect(() => console.log("ready"));
