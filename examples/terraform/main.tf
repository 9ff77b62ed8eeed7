# The relay as a stack that Terraform deploys. The variable is where the packaged template was uploaded: see ../README.md.
variable "template_url" { type = string }

resource "aws_cloudformation_stack" "relay" {
  name         = "loops-clay-relay"
  template_url = var.template_url
  capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
  parameters   = { AlarmEmail = "ops@example.com" }
}

output "urls" { value = aws_cloudformation_stack.relay.outputs }
