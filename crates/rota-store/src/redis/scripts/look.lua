-- Where the head is, and who leads. ARGV: prefix.
return position()
