"""The life of an instance, a module per stage: launch, registration, boot, liveness, termination.

`advance` takes one step of whatever stage an instance is in. What a step touches outside the database comes with
`World`. Provider calls are made outside of any transaction, and what they told is written under the lease.
"""
