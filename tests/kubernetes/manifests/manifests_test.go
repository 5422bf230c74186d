// Package manifests renders deploy/kubernetes with kustomize, decodes every object strictly into the official API
// types (an unknown field is an error), and holds them to the rules of docs/kubernetes.md.
//
//	NABATA_BINARY   if set, every argument of a server must be a flag that its --help knows
package manifests

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const deploy = "../../../deploy/kubernetes"

// newObject is an empty object of the kind, or nil.
func newObject(apiVersion, kind string) runtime.Object {
	switch apiVersion + " " + kind {
	case "apps/v1 StatefulSet":
		return &appsv1.StatefulSet{}
	case "v1 Service":
		return &corev1.Service{}
	case "v1 ServiceAccount":
		return &corev1.ServiceAccount{}
	case "v1 Pod":
		return &corev1.Pod{}
	case "rbac.authorization.k8s.io/v1 Role":
		return &rbacv1.Role{}
	case "rbac.authorization.k8s.io/v1 RoleBinding":
		return &rbacv1.RoleBinding{}
	case "policy/v1 PodDisruptionBudget":
		return &policyv1.PodDisruptionBudget{}
	case "networking.k8s.io/v1 NetworkPolicy":
		return &networkingv1.NetworkPolicy{}
	}
	return nil
}

func decode(t *testing.T, document []byte) runtime.Object {
	t.Helper()
	var meta struct{ APIVersion, Kind string }
	if err := yaml.Unmarshal(document, &meta); err != nil {
		t.Fatal(err)
	}
	object := newObject(meta.APIVersion, meta.Kind)
	if object == nil {
		t.Fatalf("a %s of %s is not expected", meta.Kind, meta.APIVersion)
	}
	if err := yaml.UnmarshalStrict(document, object); err != nil {
		t.Fatalf("%s: %v\n%s", meta.Kind, err, document)
	}
	return object
}

// render gives the objects of an overlay by "Kind/name".
func render(t *testing.T, overlay string) map[string]runtime.Object {
	t.Helper()
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), deploy+"/"+overlay)
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]runtime.Object{}
	for _, resource := range made.Resources() {
		document, err := resource.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		objects[resource.GetKind()+"/"+resource.GetName()] = decode(t, document)
	}
	return objects
}

func get[T runtime.Object](t *testing.T, objects map[string]runtime.Object, name string) T {
	t.Helper()
	object, ok := objects[name].(T)
	if !ok {
		t.Fatalf("there is no %s", name)
	}
	return object
}

func check(t *testing.T, good bool, format string, args ...any) {
	t.Helper()
	if !good {
		t.Errorf(format, args...)
	}
}

func is[T comparable](pointer *T, value T) bool { return pointer != nil && *pointer == value }

// restricted is what the pod security standard of that name asks, and what nabata promises beyond.
func restricted(t *testing.T, spec *corev1.PodSpec) {
	t.Helper()
	pod := spec.SecurityContext
	check(t, pod != nil && is(pod.RunAsNonRoot, true) && is(pod.RunAsUser, 65532) && is(pod.RunAsGroup, 65532), "not user 65532")
	check(t, pod != nil && pod.SeccompProfile != nil && pod.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault, "no seccomp profile")
	check(t, is(spec.EnableServiceLinks, false), "service links are on")
	check(t, !spec.HostNetwork && !spec.HostPID && !spec.HostIPC, "shares the host's namespaces")
	for _, c := range spec.Containers {
		s := c.SecurityContext
		check(t, s != nil && is(s.AllowPrivilegeEscalation, false) && is(s.ReadOnlyRootFilesystem, true), "%s may escalate or write", c.Name)
		check(t, s != nil && s.Capabilities != nil && slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) && len(s.Capabilities.Add) == 0, "%s has capabilities", c.Name)
		check(t, c.ImagePullPolicy == corev1.PullIfNotPresent, "%s: pull policy %s", c.Name, c.ImagePullPolicy)
	}
}

func probePath(p *corev1.Probe) string {
	if p == nil || p.HTTPGet == nil {
		return "none"
	}
	return p.HTTPGet.Path + " on " + p.HTTPGet.Port.String()
}

// servers holds a StatefulSet to what both overlays share, and gives its only container.
func servers(t *testing.T, set *appsv1.StatefulSet) *corev1.Container {
	t.Helper()
	s := set.Spec
	check(t, set.Name == "ss" && s.ServiceName == "ss-service" && is(s.Replicas, 3), "it is %s of %s", set.Name, s.ServiceName)
	check(t, s.PodManagementPolicy == appsv1.ParallelPodManagement, "pods come one by one")
	check(t, s.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType, "update strategy %s", s.UpdateStrategy.Type)
	keep := s.PersistentVolumeClaimRetentionPolicy
	check(t, keep != nil && keep.WhenDeleted == appsv1.RetainPersistentVolumeClaimRetentionPolicyType && keep.WhenScaled == appsv1.RetainPersistentVolumeClaimRetentionPolicyType, "volumes are not kept")
	check(t, is(s.Template.Spec.TerminationGracePeriodSeconds, 120), "grace period")
	for key, value := range s.Selector.MatchLabels {
		check(t, s.Template.Labels[key] == value, "the selector does not select its pods: %s", key)
	}
	restricted(t, &s.Template.Spec)
	c := &s.Template.Spec.Containers[0]
	check(t, c.Image == "localhost:5001/nabata:latest", "image %s", c.Image)
	check(t, probePath(c.LivenessProbe) == "/livez on metrics" && probePath(c.ReadinessProbe) == "/readyz on metrics" && probePath(c.StartupProbe) == "/livez on metrics", "probes")
	ports := map[string]int32{}
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	check(t, ports["client"] == 6000 && ports["peer"] == 6001 && ports["metrics"] == 2381, "ports %v", ports)
	memory, limit := c.Resources.Requests.Memory(), c.Resources.Limits.Memory()
	check(t, !memory.IsZero() && memory.Cmp(*limit) == 0, "memory %s of %s", memory, limit)
	check(t, c.Resources.Limits.Cpu().IsZero(), "a CPU limit")
	check(t, len(c.VolumeMounts) == 1 && c.VolumeMounts[0].MountPath == "/data" && c.VolumeMounts[0].Name == s.VolumeClaimTemplates[0].Name, "the data volume")
	flagsAreKnown(t, c.Args)
	for port, value := range map[string]string{"--listen-client-urls": ":6000", "--listen-peer-urls": ":6001", "--listen-metrics-urls": ":2381"} {
		check(t, strings.HasSuffix(argument(c.Args, port), value), "%s is %s", port, argument(c.Args, port))
	}
	check(t, strings.HasPrefix(argument(c.Args, "--data-dir"), "/data"), "data in %s", argument(c.Args, "--data-dir"))
	return c
}

func argument(args []string, name string) string {
	for _, a := range args {
		if value, ok := strings.CutPrefix(a, name+"="); ok {
			return value
		}
	}
	return ""
}

func flagsAreKnown(t *testing.T, args []string) {
	t.Helper()
	check(t, len(args) > 0 && args[0] == "server", "the command is not `server`")
	binary := os.Getenv("NABATA_BINARY")
	if binary == "" {
		return
	}
	help, err := exec.Command(binary, "server", "--help").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range args[1:] {
		name, _, _ := strings.Cut(a, "=")
		check(t, bytes.Contains(help, []byte(name+" ")) || bytes.Contains(help, []byte(name+"\n")), "the server knows no %s", name)
	}
}

func headless(t *testing.T, objects map[string]runtime.Object) {
	t.Helper()
	s := get[*corev1.Service](t, objects, "Service/ss-service").Spec
	check(t, s.ClusterIP == corev1.ClusterIPNone && s.PublishNotReadyAddresses, "ss-service is not headless, or hides unready pods")
	ports := map[string]int32{}
	for _, p := range s.Ports {
		ports[p.Name] = p.Port
	}
	check(t, ports["client"] == 6000 && ports["peer"] == 6001, "ports of ss-service: %v", ports)
	client := get[*corev1.Service](t, objects, "Service/nabata").Spec
	check(t, client.ClusterIP == "" && !client.PublishNotReadyAddresses, "the clients' service")
}

func TestOverlayKindStartsTheServersByTheirAddresses(t *testing.T) {
	objects := render(t, "overlays/kind")
	set := get[*appsv1.StatefulSet](t, objects, "StatefulSet/ss")
	check(t, set.Namespace == "default", "namespace %s", set.Namespace)
	c := servers(t, set)
	var all []string
	for i := range 3 {
		all = append(all, fmt.Sprintf("ss-%d=http://ss-%d.ss-service.default.svc.cluster.local:6001", i, i))
	}
	check(t, argument(c.Args, "--initial-cluster") == strings.Join(all, ","), "--initial-cluster=%s", argument(c.Args, "--initial-cluster"))
	check(t, argument(c.Args, "--advertise-client-urls") == "http://$(POD_NAME).ss-service.default.svc.cluster.local:6000", "advertised: %s", argument(c.Args, "--advertise-client-urls"))
	check(t, is(set.Spec.Template.Spec.AutomountServiceAccountToken, false), "a token that nobody needs")
	headless(t, objects)
	check(t, len(objects) == 3, "%d objects", len(objects))
}

func TestTheClientPodFindsTheServersByTheService(t *testing.T) {
	document, err := os.ReadFile(deploy + "/overlays/kind/c1.yaml")
	if err != nil {
		t.Fatal(err)
	}
	pod := decode(t, document).(*corev1.Pod)
	check(t, pod.Name == "c1" && pod.Namespace == "default", "it is %s/%s", pod.Namespace, pod.Name)
	restricted(t, &pod.Spec)
	c := pod.Spec.Containers[0]
	check(t, c.Image == "localhost:5001/nabata-client:latest", "image %s", c.Image)
	check(t, len(c.Env) == 1 && c.Env[0].Name == "NABATA_SERVICE" && c.Env[0].Value == "ss-service", "environment %v", c.Env)
	check(t, is(pod.Spec.AutomountServiceAccountToken, false), "a token that nobody needs")
}

func TestOverlayProductionRunsItself(t *testing.T) {
	objects := render(t, "overlays/production")
	set := get[*appsv1.StatefulSet](t, objects, "StatefulSet/ss")
	c := servers(t, set)
	check(t, argument(c.Args, "--statefulset") == "ss-service" && argument(c.Args, "--initial-cluster") == "", "mode")
	check(t, argument(c.Args, "--termination-grace") == fmt.Sprint(*set.Spec.Template.Spec.TerminationGracePeriodSeconds), "the server believes in another grace period")
	fields := map[string]string{}
	for _, e := range c.Env {
		if e.ValueFrom != nil && e.ValueFrom.FieldRef != nil {
			fields[e.Name] = e.ValueFrom.FieldRef.FieldPath
		}
	}
	check(t, fields["POD_NAME"] == "metadata.name" && fields["POD_NAMESPACE"] == "metadata.namespace", "environment %v", fields)
	for _, spread := range set.Spec.Template.Spec.TopologySpreadConstraints {
		check(t, spread.WhenUnsatisfiable == corev1.ScheduleAnyway, "a spread that can leave pods unscheduled")
	}
	check(t, len(set.Spec.Template.Spec.TopologySpreadConstraints) == 2, "spread")
	headless(t, objects)
}

func TestOverlayProductionGivesExactlyTheRightsThatAreUsed(t *testing.T) {
	objects := render(t, "overlays/production")
	set := get[*appsv1.StatefulSet](t, objects, "StatefulSet/ss")
	rules := get[*rbacv1.Role](t, objects, "Role/nabata").Rules
	check(t, len(rules) == 1, "%d rules", len(rules))
	check(t, slices.Equal(rules[0].APIGroups, []string{"apps"}) && slices.Equal(rules[0].Resources, []string{"statefulsets"}) &&
		slices.Equal(rules[0].ResourceNames, []string{set.Name}) && slices.Equal(rules[0].Verbs, []string{"get", "patch"}), "rule %v", rules[0])
	binding := get[*rbacv1.RoleBinding](t, objects, "RoleBinding/nabata")
	account := get[*corev1.ServiceAccount](t, objects, "ServiceAccount/nabata")
	check(t, binding.RoleRef.Name == "nabata" && len(binding.Subjects) == 1 && binding.Subjects[0].Name == account.Name &&
		binding.Subjects[0].Namespace == set.Namespace, "binding %v", binding)
	check(t, set.Spec.Template.Spec.ServiceAccountName == account.Name && is(set.Spec.Template.Spec.AutomountServiceAccountToken, true), "the account is not used")
	check(t, is(account.AutomountServiceAccountToken, false), "the account gives its token to any pod")
}

func TestOverlayProductionGuardsAgainstDrainsAndStrangers(t *testing.T) {
	objects := render(t, "overlays/production")
	budget := get[*policyv1.PodDisruptionBudget](t, objects, "PodDisruptionBudget/nabata").Spec
	check(t, is(budget.MaxUnavailable, intstr.FromInt32(1)) && budget.MinAvailable == nil, "budget %v", budget)
	policy := get[*networkingv1.NetworkPolicy](t, objects, "NetworkPolicy/nabata").Spec
	set := get[*appsv1.StatefulSet](t, objects, "StatefulSet/ss")
	for _, selected := range []map[string]string{budget.Selector.MatchLabels, policy.PodSelector.MatchLabels} {
		for key, value := range selected {
			check(t, set.Spec.Template.Labels[key] == value, "selects no server: %s=%s", key, value)
		}
	}
	for _, rule := range policy.Ingress {
		for _, port := range rule.Ports {
			if port.Port.StrVal == "peer" {
				check(t, len(rule.From) == 1 && rule.From[0].PodSelector != nil && len(rule.From[0].PodSelector.MatchLabels) > 0, "anybody may talk to the peer port")
			}
		}
	}
}
