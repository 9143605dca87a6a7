package replay

import (
	"bufio"
	"fmt"
	"strings"
	"testing"
)

// A serverState is a row about the server itself: groups, suEXEC, caches. They come one after the other, each on what
// those before it left.
type serverState struct {
	row
	restart bool // the server, after the state came about
}

func serverStates(t *testing.T, u *setup, rows []serverState) {
	t.Parallel()
	kinds := map[string]*labSite{}
	var sites []*labSite
	for _, st := range rows {
		if kinds[st.kind] == nil {
			kinds[st.kind] = u.newSite(t, st.kind, "g"+st.kind, len(sites))
			sites = append(sites, kinds[st.kind])
		}
	}
	l := newLab(t, u, sites, baseline)
	for _, st := range rows {
		s := kinds[st.kind]
		l.script(states([]row{st.row}, []*labSite{s}))
		if st.restart {
			if err := l.ReloadWeb(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		predicted := l.predict(s.user)
		for _, a := range l.asks(s, st.row) {
			hold(t, st.row, a, predicted[s.name()][a.path])
		}
	}
}

// A worker keeps the groups that it was started with; only a restart changes them.
func TestGroupsOfRunningWorkersCount(t *testing.T) {
	for name, u := range map[string]*setup{"apache": event(), "nginx": nginx()} {
		t.Run(name, func(t *testing.T) {
			code := map[string]string{"apache": " AH00132", "nginx": " nginx:open"}[name]
			serverStates(t, u, []serverState{
				{row{"G01", "std", "chmod 0640 ok.html; sed -i 's/^gstd:.*/&www-data/' /etc/group", "/ok.html 403" + code}, false},
				{row{"G02", "std", ":", "/ok.html 200"}, true},
				{row{"G03", "std", "sed -i '/^gstd:/s/www-data//' /etc/group", "/ok.html 200"}, false},
				{row{"G04", "std", ":", "/ok.html 403" + code}, true},
			})
		})
	}
}

// suEXEC itself may be set up wrongly, and then nothing of a customer's is to blame.
func TestSuEXECItselfIsJudged(t *testing.T) {
	const bin = "$(readlink -f /usr/lib/apache2/suexec)"
	serverStates(t, event(), []serverState{
		{row{"X00", "sux", ":", "/ok.cgi 200"}, false},
		{row{"X22", "sux", "printf '/var/www\\npublic_html\\n' >/etc/apache2/suexec/www-data", "/ok.cgi 500 suexec:114"}, false},
		{row{"X30", "suxvw", ":", "/ok.cgi 200"}, false},
		{row{"X31", "suxvw", "cp -a ok.cgi sub/a.cgi; chown root:www-data .; chmod 0710 .", "/sub/a.cgi 500 suexec:115"}, false},
		{row{"X32", "suxvw", "chown $U:$U .; chmod 0755 .; chmod 0777 /var/www", "/ok.cgi 200-"}, false},
		{row{"X23", "sux", "printf '/home\\npublic_html\\n' >/etc/apache2/suexec/www-data; chmod u-s " + bin, "/ok.cgi 500? suexec-log"}, false},
		{row{"X24", "sux", "chmod 0750 " + bin + "; chgrp root " + bin, "/ok.cgi 500? cgi:exec"}, false},
	})
}

// A worker that became one customer's cannot become another's, nor see what the walk needs privileges for: it closes a
// connection that is kept alive, without an answer. This is why no one request proves anything under mpm_itk.
func TestAnITKWorkerDropsAConnectionThatItCannotServe(t *testing.T) {
	t.Parallel()
	u := itk()
	u.conf = strings.Replace(u.conf, "KeepAlive Off", "KeepAlive On", 1)
	rows := []struct{ id, state, second, log string }{
		{"I09", "echo >sub/.htaccess; chown bob sub/.htaccess; chmod 0600 sub/.htaccess", "/sub/ok.html", "Couldn't read"},
		{"I09b", bobs("echo >bd/x.html; chmod 0700 bd"), "/bd/x.html", "Couldn't read"},
		{"I10", ":", "", "Couldn't set uid/gid/priority"},
	}
	var sites []*labSite
	for i, r := range rows {
		sites = append(sites, u.newSite(t, "itk", strings.ToLower(r.id), i))
	}
	l := newLab(t, u, sites, baseline)
	for i, r := range rows {
		s := sites[i]
		l.script(states([]row{{state: r.state}}, sites[i:i+1]))
		c, err := l.Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		second := &request{host: s.name(), path: r.second}
		if r.second == "" {
			second = &request{host: sites[0].name(), path: "/ok.html"}
		}
		kept := &conn{c, bufio.NewReader(c)}
		one := &asker{}
		if code, err := one.over(kept, &request{host: s.name(), path: "/ok.html"}); code != 200 || err != nil {
			t.Errorf("%s: the first request is answered %d, %v", r.id, code, err)
		}
		code, err := one.over(kept, second)
		logs := fmt.Sprint(l.lines(s), l.lines(sites[0]))
		if err == nil || !strings.Contains(logs, r.log) {
			t.Errorf("%s: the second request is answered %d, %v; the log says %q", r.id, code, err, logs)
		}
		if l.asker.ask(second); second.status == 0 {
			t.Errorf("%s: on a connection of its own: %v", r.id, second.err)
		}
	}
}
