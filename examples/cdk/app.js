// The relay as a stack of a CDK app. `packaged.yaml` is what `sam package` has written: see ../README.md.
const { App, CfnOutput, Stack } = require("aws-cdk-lib");
const { CfnInclude } = require("aws-cdk-lib/cloudformation-include");

const app = new App();
const stack = new Stack(app, "loops-clay-relay");
const relay = new CfnInclude(stack, "Relay", {
  templateFile: process.env.RELAY_TEMPLATE ?? "packaged.yaml",
  parameters: { AlarmEmail: "ops@example.com" },
});
// A queue, a function or an alarm of the relay is there under its name, to be watched or granted from here.
new CfnOutput(stack, "DeadLetters", { value: relay.getResource("ClayDeadLetters").ref });

module.exports = app;
