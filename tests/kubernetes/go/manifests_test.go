// Renders the overlays as `kubectl apply -k` would, decodes them strictly into Kubernetes' own types, and holds them to
// the rules of docs/kubernetes.md.
package kubernetes

import (
	"bytes"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const suffix = ".ss-service.default.svc.cluster.local"

type objects struct {
	t   *testing.T
	all map[string]runtime.Object // by "Kind/name"
}

func render(t *testing.T, overlay string) objects {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme, rbacv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	strict := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).
		Run(filesys.MakeFsOnDisk(), "../../../deploy/kubernetes/overlays/"+overlay)
	if err != nil {
		t.Fatal(err)
	}
	o := objects{t, map[string]runtime.Object{}}
	for _, resource := range rendered.Resources() {
		text, err := resource.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		object, _, err := strict.Decode(text, nil, nil)
		if err != nil {
			t.Fatalf("%s is not of its type: %v\n%s", resource.GetName(), err, text)
		}
		o.all[resource.GetKind()+"/"+resource.GetName()] = object
		if resource.GetLabels()["app.kubernetes.io/name"] != "nabata" {
			t.Errorf("%s has no label app.kubernetes.io/name", resource.GetName())
		}
	}
	return o
}

func get[T runtime.Object](o objects, name string) T {
	o.t.Helper()
	found, ok := o.all[name].(T)
	if !ok {
		o.t.Fatalf("there is no %s", name)
	}
	return found
}

func (o objects) has(names ...string) {
	o.t.Helper()
	var have []string
	for name := range o.all {
		have = append(have, name)
	}
	slices.Sort(have)
	slices.Sort(names)
	equal(o.t, "the objects", have, names)
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %v, not %v", what, got, want)
	}
}

// What Kubernetes' own admission has against the pod at the level "restricted", in its newest version.
func violations(t *testing.T, pod corev1.PodSpec) string {
	t.Helper()
	checks, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	result := policy.AggregateCheckResults(checks.EvaluatePod(level, &metav1.ObjectMeta{}, &pod))
	return result.ForbiddenDetail()
}

// The rules of the pod security level "restricted", and what nabata adds to them.
func restricted(t *testing.T, pod corev1.PodSpec) {
	t.Helper()
	equal(t, "violations of pod security", violations(t, pod), "")
	loose := *pod.DeepCopy()
	loose.Containers[0].SecurityContext.Capabilities = nil
	if violations(t, loose) == "" {
		t.Error("a container that keeps its capabilities is not a violation")
	}
	s := pod.SecurityContext
	if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser != 65532 ||
		s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("the pod is not restricted: %+v", s)
	}
	if pod.HostNetwork || pod.HostPID || pod.HostIPC || pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
		t.Error("the pod shares what it must not, or has service links")
	}
	for _, c := range append(pod.InitContainers, pod.Containers...) {
		s := c.SecurityContext
		if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
			s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || s.Capabilities == nil ||
			!reflect.DeepEqual(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) != 0 {
			t.Errorf("container %s is not restricted: %+v", c.Name, s)
		}
		if c.ImagePullPolicy != corev1.PullIfNotPresent {
			t.Errorf("container %s: %s would not start from a loaded image", c.Name, c.ImagePullPolicy)
		}
		limit := c.Resources.Limits
		equal(t, c.Name+": memory", limit.Memory().String(), c.Resources.Requests.Memory().String())
		if _, ok := limit[corev1.ResourceCPU]; ok || limit.Memory().IsZero() {
			t.Errorf("container %s: a memory limit, and no CPU limit", c.Name)
		}
	}
}

func probe(t *testing.T, what string, p *corev1.Probe, path string) {
	t.Helper()
	if p == nil || p.HTTPGet == nil || p.HTTPGet.Path != path || p.HTTPGet.Port.StrVal != "metrics" ||
		p.HTTPGet.Scheme != "" && p.HTTPGet.Scheme != corev1.URISchemeHTTP {
		t.Errorf("%s: %+v", what, p)
	}
}

func ports(c corev1.Container) map[string]int32 {
	m := map[string]int32{}
	for _, p := range c.Ports {
		m[p.Name] = p.ContainerPort
	}
	return m
}

func servicePorts(s *corev1.Service) map[string]int32 {
	m := map[string]int32{}
	for _, p := range s.Spec.Ports {
		m[p.Name] = p.Port
		if p.TargetPort.StrVal != p.Name || p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
			m[p.Name] = -1
		}
	}
	return m
}

// The command line as a map; every flag must be one that the server's help knows.
func flags(t *testing.T, c corev1.Container) map[string]string {
	t.Helper()
	if len(c.Command) != 0 || len(c.Args) == 0 || c.Args[0] != "server" {
		t.Fatalf("the container runs %v %v", c.Command, c.Args)
	}
	known := ""
	if binary := os.Getenv("NABATA"); binary != "" {
		help, err := exec.Command(binary, "server", "--help").Output()
		if err != nil {
			t.Fatal(err)
		}
		known = string(help)
	}
	m := map[string]string{}
	for _, word := range c.Args[1:] {
		flag, value, ok := strings.Cut(word, "=")
		if !ok || !strings.HasPrefix(flag, "--") {
			t.Errorf("not --flag=value: %q", word)
		}
		m[flag] = value
		self := strings.HasPrefix(flag, "--statefulset") || flag == "--termination-grace"
		if self && known != "" && !strings.Contains(known, "--statefulset") {
			t.Logf("%s: this binary has not got the self-running mode", flag)
		} else if known != "" && !regexp.MustCompile(`(?m)^ +`+flag+`\b`).MatchString(known) {
			t.Errorf("%s is not a flag of the server", flag)
		}
	}
	return m
}

// What holds for the set in both overlays.
func commonRules(t *testing.T, o objects) (*appsv1.StatefulSet, corev1.Container) {
	t.Helper()
	set := get[*appsv1.StatefulSet](o, "StatefulSet/ss")
	pod := set.Spec.Template.Spec
	restricted(t, pod)
	c := pod.Containers[0]
	equal(t, "replicas", *set.Spec.Replicas, int32(3))
	equal(t, "serviceName", set.Spec.ServiceName, "ss-service")
	equal(t, "pod management", set.Spec.PodManagementPolicy, appsv1.ParallelPodManagement)
	equal(t, "update", set.Spec.UpdateStrategy.Type, appsv1.RollingUpdateStatefulSetStrategyType)
	equal(t, "volumes afterwards", *set.Spec.PersistentVolumeClaimRetentionPolicy,
		appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
			WhenDeleted: appsv1.RetainPersistentVolumeClaimRetentionPolicyType,
			WhenScaled:  appsv1.RetainPersistentVolumeClaimRetentionPolicyType})
	equal(t, "grace", *pod.TerminationGracePeriodSeconds, int64(120))
	probe(t, "startup", c.StartupProbe, "/livez")
	probe(t, "liveness", c.LivenessProbe, "/livez")
	probe(t, "readiness", c.ReadinessProbe, "/readyz")
	if len(set.Spec.VolumeClaimTemplates) != 1 || set.Spec.VolumeClaimTemplates[0].Name != c.VolumeMounts[0].Name ||
		len(c.VolumeMounts) != 1 || len(pod.Volumes) != 0 {
		t.Error("exactly the data volume is mounted")
	}
	if !strings.HasPrefix(flags(t, c)["--data-dir"], c.VolumeMounts[0].MountPath+"/") {
		t.Error("the data is not on the volume")
	}
	equal(t, "metrics", flags(t, c)["--listen-metrics-urls"], "http://0.0.0.0:2381")
	equal(t, "POD_NAME", c.Env[0].Name+" "+c.Env[0].ValueFrom.FieldRef.FieldPath, "POD_NAME metadata.name")
	equal(t, "POD_NAMESPACE", c.Env[1].Name+" "+c.Env[1].ValueFrom.FieldRef.FieldPath, "POD_NAMESPACE metadata.namespace")
	if len(pod.TopologySpreadConstraints) == 0 {
		t.Error("nothing spreads the pods")
	}
	for _, each := range pod.TopologySpreadConstraints {
		equal(t, "spread", each.WhenUnsatisfiable, corev1.ScheduleAnyway)
		equal(t, "spread selects", each.LabelSelector.MatchLabels, set.Spec.Selector.MatchLabels)
	}

	headless := get[*corev1.Service](o, "Service/ss-service")
	equal(t, "headless", headless.Spec.ClusterIP, "None")
	equal(t, "names before readiness", headless.Spec.PublishNotReadyAddresses, true)
	equal(t, "headless selects", headless.Spec.Selector, set.Spec.Selector.MatchLabels)
	for key, value := range set.Spec.Selector.MatchLabels {
		equal(t, "label "+key, set.Spec.Template.Labels[key], value)
	}
	return set, c
}

func TestKindServersAreLaunchedWithTheAddressesOfAllReplicas(t *testing.T) {
	o := render(t, "kind")
	o.has("Pod/c1", "Service/ss-service", "ServiceAccount/nabata", "StatefulSet/ss")
	set, c := commonRules(t, o)
	equal(t, "namespace", set.Namespace, "default")
	equal(t, "image", c.Image, "localhost:5001/nabata:latest")
	equal(t, "ports", ports(c), map[string]int32{"client": 6000, "peer": 6001, "metrics": 2381})
	equal(t, "service", servicePorts(get[*corev1.Service](o, "Service/ss-service")),
		map[string]int32{"client": 6000, "peer": 6001}) // SRV _client._tcp.ss-service
	f := flags(t, c)
	var members []string
	for _, name := range []string{"ss-0", "ss-1", "ss-2"} {
		members = append(members, name+"=http://"+name+suffix+":6001")
	}
	for flag, want := range map[string]string{
		"--name":                        "$(POD_NAME)",
		"--initial-cluster":             strings.Join(members, ","),
		"--initial-advertise-peer-urls": "http://$(POD_NAME)" + suffix + ":6001",
		"--advertise-client-urls":       "http://$(POD_NAME)" + suffix + ":6000",
		"--listen-peer-urls":            "http://0.0.0.0:6001",
		"--listen-client-urls":          "http://0.0.0.0:6000",
		"--log-format":                  "console",
	} {
		equal(t, flag, f[flag], want)
	}
	if set.Spec.Template.Spec.AutomountServiceAccountToken == nil || *set.Spec.Template.Spec.AutomountServiceAccountToken {
		t.Error("a token is mounted that nobody reads")
	}
}

func TestKindClientFindsTheServiceByItself(t *testing.T) {
	o := render(t, "kind")
	pod := get[*corev1.Pod](o, "Pod/c1")
	restricted(t, pod.Spec)
	c := pod.Spec.Containers[0]
	equal(t, "image", c.Image, "localhost:5001/nabata-client:latest")
	equal(t, "env", c.Env, []corev1.EnvVar{{Name: "NABATA_SERVICE", Value: "ss-service"}})
	for key, value := range get[*corev1.Service](o, "Service/ss-service").Spec.Selector {
		if key == "app.kubernetes.io/component" && pod.Labels[key] == value {
			t.Error("the service would take the client for a server")
		}
	}
}

func TestProductionRunsItself(t *testing.T) {
	o := render(t, "production")
	o.has("Namespace/nabata", "NetworkPolicy/ss", "PodDisruptionBudget/ss", "Role/nabata", "RoleBinding/nabata",
		"Service/ss-client", "Service/ss-service", "ServiceAccount/nabata", "StatefulSet/ss")
	set, c := commonRules(t, o)
	equal(t, "ports", ports(c), map[string]int32{"client": 2379, "peer": 2380, "metrics": 2381})
	f := flags(t, c)
	equal(t, "--statefulset", f["--statefulset"], set.Spec.ServiceName)
	equal(t, "--statefulset-replicas", f["--statefulset-replicas"], "3")
	equal(t, "--termination-grace", f["--termination-grace"], "120")
	for _, flag := range []string{"--initial-cluster", "--initial-cluster-state", "--discovery-srv", "--name"} {
		if _, ok := f[flag]; ok {
			t.Errorf("%s does not go with --statefulset", flag)
		}
	}
	if token := set.Spec.Template.Spec.AutomountServiceAccountToken; token == nil || !*token {
		t.Error("the pod cannot read its StatefulSet")
	}
	clients := get[*corev1.Service](o, "Service/ss-client")
	equal(t, "client service", clients.Spec.Type, corev1.ServiceTypeClusterIP)
	equal(t, "only the ready", clients.Spec.PublishNotReadyAddresses, false)
	equal(t, "client service selects", clients.Spec.Selector, set.Spec.Selector.MatchLabels)
	equal(t, "client service", servicePorts(clients), map[string]int32{"client": 2379})
	equal(t, "headless service", servicePorts(get[*corev1.Service](o, "Service/ss-service")),
		map[string]int32{"client": 2379, "peer": 2380})
	budget := get[*policyv1.PodDisruptionBudget](o, "PodDisruptionBudget/ss")
	equal(t, "one at a time", budget.Spec.MaxUnavailable.IntValue(), 1)
	equal(t, "budget selects", budget.Spec.Selector.MatchLabels, set.Spec.Selector.MatchLabels)
	equal(t, "pod security", get[*corev1.Namespace](o, "Namespace/nabata").Labels["pod-security.kubernetes.io/enforce"],
		"restricted")
}

func TestProductionRoleIsExactlyGetAndPatchOfTheOneSet(t *testing.T) {
	o := render(t, "production")
	equal(t, "rules", get[*rbacv1.Role](o, "Role/nabata").Rules, []rbacv1.PolicyRule{{
		Verbs: []string{"get", "patch"}, APIGroups: []string{"apps"}, Resources: []string{"statefulsets"},
		ResourceNames: []string{"ss"}}})
	binding := get[*rbacv1.RoleBinding](o, "RoleBinding/nabata")
	equal(t, "role", binding.RoleRef, rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "Role", Name: "nabata"})
	equal(t, "subjects", binding.Subjects, []rbacv1.Subject{{Kind: "ServiceAccount", Name: "nabata", Namespace: "nabata"}})
	set := get[*appsv1.StatefulSet](o, "StatefulSet/ss")
	equal(t, "account", set.Spec.Template.Spec.ServiceAccountName, "nabata")
	equal(t, "namespace", set.Namespace, "nabata")
}

func TestProductionPeersAreReachedByPeersOnly(t *testing.T) {
	o := render(t, "production")
	set := get[*appsv1.StatefulSet](o, "StatefulSet/ss")
	policy := get[*networkingv1.NetworkPolicy](o, "NetworkPolicy/ss")
	equal(t, "policy selects", policy.Spec.PodSelector.MatchLabels, set.Spec.Selector.MatchLabels)
	for _, rule := range policy.Spec.Ingress {
		for _, port := range rule.Ports {
			if port.Port.StrVal != "peer" {
				continue
			}
			if len(rule.From) != 1 || rule.From[0].NamespaceSelector != nil ||
				!reflect.DeepEqual(rule.From[0].PodSelector.MatchLabels, set.Spec.Selector.MatchLabels) {
				t.Errorf("peers are open to %+v", rule.From)
			}
		}
	}
	open := map[int]bool{}
	for _, rule := range policy.Spec.Egress {
		for _, port := range rule.Ports {
			open[port.Port.IntValue()] = true
		}
	}
	equal(t, "out", open, map[int]bool{2379: true, 2380: true, 53: true, 443: true, 6443: true})
}

// A decoder that lets a misspelt field pass would make all of the above worthless.
func TestDecodingIsStrict(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	text := bytes.NewBufferString("apiVersion: v1\nkind: Service\nspec:\n  publishNotReadyAdresses: true\n")
	strict := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	if _, _, err := strict.Decode(text.Bytes(), nil, nil); err == nil {
		t.Error("a misspelt field passed")
	}
}
