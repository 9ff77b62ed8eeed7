// The CDK app makes of the relay's template what the template says.

const assert = require("node:assert/strict");
const { mkdtempSync, readFileSync, writeFileSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { test } = require("node:test");

test("every function of the relay is in the synthesised stack", () => {
  // As `sam package` writes it: the code of each function is in a bucket.
  const source = readFileSync(join(__dirname, "../../template.yaml"), "utf8");
  const functions = source.match(/^      FunctionName: .*$/gm);
  const packaged = source.replace("    CodeUri: .\n", "").replace(/^(      FunctionName: .*)$/gm, "$1\n      CodeUri: s3://a-bucket/code.zip");
  process.env.RELAY_TEMPLATE = join(mkdtempSync(join(tmpdir(), "relay-cdk-")), "packaged.yaml");
  writeFileSync(process.env.RELAY_TEMPLATE, packaged);

  const { template } = require("./app.js").synth().getStackByName("loops-clay-relay");

  assert.equal(template.Transform, "AWS::Serverless-2016-10-31");
  const resources = Object.values(template.Resources);
  const found = resources.filter(({ Type, Properties }) => Type === "AWS::Serverless::Function" && Properties.CodeUri === "s3://a-bucket/code.zip");
  assert.equal(found.length, functions.length);
  assert.equal(template.Parameters.AlarmEmail, undefined, "the app has set it");
});
