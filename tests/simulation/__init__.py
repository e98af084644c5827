"""A deterministic simulation of the orchestrator: our real code on a real Postgres, everything else injected.

Clock, chance, provider, broker, discovery and the machines are stand-ins. Orchestrator, clocks and API run as actors,
in threads of which one runs at a time. Every side effect (a provider call, a commit, a publish) is a point at which an
actor can be paused, past its lease or for hours, or killed, and where what it touches can fail. One seed is one
schedule, which is replayed exactly and told as a story.

    actors      who acts, and how an actor is paused and killed
    director    what happens at a point: by a script or by chance
    schedule    the events in their order, and the run from the first fault to the calm after the last
    cloud, broker, discovery, database, machines    what the actors touch
    invariants  what must hold after every event, and in the end
    mutants     bugs that the simulation must find, or it proves nothing
"""
