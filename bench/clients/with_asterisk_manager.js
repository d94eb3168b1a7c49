// asterisk-manager (npm), with a listener that does nothing for every event.
//
//     node with_asterisk_manager.js PORT
"use strict";

const ami = require("asterisk-manager")(process.argv[2], "127.0.0.1", "ami2zammad", "sandbox", true);

ami.on("managerevent", (event) => {
  if (event.event === "BenchmarkEnd") {
    console.log("{}");
    process.exit(0);
  }
});
ami.on("connect", () => setTimeout(() => console.log("ready"), 500));
