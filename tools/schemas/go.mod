module l402-train.invalid/tools/schemas

go 1.26.0

require (
	github.com/kedacore/keda/v2 v2.21.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
	k8s.io/kubernetes v1.34.1
	sigs.k8s.io/gateway-api v1.4.0
)
