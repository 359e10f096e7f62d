"""English ways to ask for each edit."""

from __future__ import annotations

from tools.tiny_model.phrasings import AnyTask, Frames, Phrasings, phrasings

PHRASINGS: dict[AnyTask, Phrasings] = {
    "recolour": phrasings(
        """
        make {o} {c}
        turn {o} {c}
        paint {o} {c}
        color {o} {c}
        colour {o} {c}
        dye {o} {c}
        tint {o} {c}
        change {o} to {c}
        switch {o} to {c}
        convert {o} to {c}
        recolor {o} to {c}
        recolour {o} in {c}
        repaint {o} in {c}
        draw {o} in {c}
        fill {o} with {c}
        let {o} be {c}
        give {o} {ac} color
        give {o} the color {c}
        set the color of {o} to {c}
        change the color of {o} to {c}
        change the colour of {o} to {c}
        change {o} into {ac} one
        """,
        """
        {o} should be {c}
        {o} should become {c}
        {o} needs to be {c}
        I want {o} {c}
        I want {o} to be {c}
        the color of {o} should be {c}
        """,
        """
        make the color of {o} {c}
        paint {o} in {c}
        turn the color of {o} to {c}
        let {o} become {c}
        """,
        """
        I want the color of {o} to be {c}
        {o} needs to become {c}
        """,
    ),
    "remove": phrasings(
        """
        remove {o}
        delete {o}
        erase {o}
        eliminate {o}
        discard {o}
        drop {o}
        hide {o}
        clear {o}
        wipe out {o}
        cut out {o}
        take away {o}
        take {o} away
        throw {o} away
        get rid of {o}
        make {o} disappear
        make {o} vanish
        let {o} disappear
        take {o} out of the picture
        remove {o} from the picture
        remove {o} from the image
        delete {o} from the image
        """,
        """
        {o} should disappear
        {o} should be gone
        {o} should not be there
        {o} must go away
        I want {o} gone
        I want {o} removed
        I do not want {o}
        """,
        """
        take {o} out of the image
        erase {o} from the picture
        let {o} vanish
        wipe {o} out
        """,
        """
        I want {o} to disappear
        {o} should be removed
        """,
    ),
    "add": phrasings(
        """
        add {n} {at}
        put {n} {at}
        draw {n} {at}
        paint {n} {at}
        place {n} {at}
        insert {n} {at}
        create {n} {at}
        include {n} {at}
        set {n} {at}
        make {n} {at}
        position {n} {at}
        generate {n} {at}
        add {n} {to}
        let {n} appear {at}
        add {n} to the picture {at}
        put another shape {at}: {n}
        """,
        """
        there should be {n} {at}
        {at} there should be {n}
        {at}, add {n}
        {at}, draw {n}
        I want {n} {at}
        I need {n} {at}
        I would like {n} {at}
        """,
        """
        make {n} appear {at}
        let there be {n} {at}
        insert {n} to the picture {at}
        """,
        """
        {at}, place {n}
        I want there to be {n} {at}
        {n} should appear {at}
        """,
    ),
    "replace": phrasings(
        """
        turn {o} into {k}
        change {o} into {k}
        change {o} to {k}
        transform {o} into {k}
        convert {o} to {k}
        convert {o} into {k}
        morph {o} into {k}
        reshape {o} into {k}
        make {o} {k}
        make {o} into {k}
        replace {o} with {k}
        replace {o} by {k}
        swap {o} for {k}
        swap {o} with {k}
        exchange {o} for {k}
        substitute {k} for {o}
        draw {k} instead of {o}
        put {k} in place of {o}
        change the shape of {o} to {k}
        """,
        """
        {o} should be {k}
        {o} should become {k}
        {o} needs to be {k}
        I want {o} to be {k}
        I want {k} instead of {o}
        instead of {o}, draw {k}
        """,
        """
        transform {o} to {k}
        put {k} instead of {o}
        draw {k} in place of {o}
        let {o} become {k}
        """,
        """
        I want {o} to become {k}
        there should be {k} instead of {o}
        """,
    ),
    "move": phrasings(
        """
        move {o} {to}
        shift {o} {to}
        drag {o} {to}
        slide {o} {to}
        push {o} {to}
        pull {o} {to}
        bring {o} {to}
        carry {o} {to}
        send {o} {to}
        take {o} {to}
        transfer {o} {to}
        relocate {o} {to}
        reposition {o} {to}
        change the position of {o} {to}
        put {o} {at}
        place {o} {at}
        position {o} {at}
        move {o} so that it is {at}
        let {o} go {to}
        """,
        """
        {o} should be {at}
        {o} should go {to}
        {o} should move {to}
        {o} belongs {at}
        I want {o} {at}
        I want {o} to be {at}
        """,
        """
        set the position of {o} {to}
        let {o} move {to}
        make {o} go {to}
        """,
        """
        {o} needs to be {at}
        I want {o} to go {to}
        I would like {o} to be {at}
        """,
    ),
    "grow": phrasings(
        """
        make {o} bigger
        make {o} larger
        make {o} grow
        enlarge {o}
        grow {o}
        expand {o}
        magnify {o}
        upscale {o}
        blow up {o}
        scale up {o}
        scale {o} up
        increase the size of {o}
        increase {o}
        resize {o} to be bigger
        draw {o} bigger
        """,
        """
        {o} should be bigger
        {o} should be larger
        {o} should grow
        {o} is too small
        I want {o} bigger
        I want {o} to be larger
        """,
        """
        let {o} grow
        increase {o} in size
        resize {o} to be larger
        """,
        """
        {o} needs to be larger
        I want {o} to grow
        """,
    ),
    "shrink": phrasings(
        """
        make {o} smaller
        make {o} tinier
        make {o} shrink
        shrink {o}
        reduce {o}
        downsize {o}
        downscale {o}
        scale down {o}
        scale {o} down
        reduce the size of {o}
        decrease the size of {o}
        reduce {o} in size
        resize {o} to be smaller
        draw {o} smaller
        """,
        """
        {o} should be smaller
        {o} should be tinier
        {o} should shrink
        {o} is too big
        {o} is too large
        I want {o} smaller
        I want {o} to be smaller
        """,
        """
        let {o} shrink
        decrease {o} in size
        resize {o} to be tinier
        """,
        """
        {o} needs to be smaller
        I want {o} to shrink
        """,
    ),
    "background": phrasings(
        """
        change the background to {b}
        make the background {b}
        set the background to {b}
        switch the background to {b}
        convert the background to {b}
        turn the background into {b}
        replace the background with {b}
        replace the background by {b}
        swap the background for {b}
        fill the background with {b}
        paint the background {b}
        draw {b} as the background
        use {b} as the background
        use {b} for the background
        give the picture this background: {b}
        change the color of the background to {b}
        """,
        """
        the background should be {b}
        the background should become {b}
        the background needs to be {b}
        I want the background to be {b}
        I want {b} as the background
        """,
        """
        swap the background with {b}
        let the background be {b}
        put {b} in the background
        """,
        """
        I want the background to become {b}
        I would like {b} for the background
        """,
    ),
    "recolour like": phrasings(
        """
        make {o} the color of {r} in {two}
        paint {o} in the color of {r} in {two}
        give {o} the color of {r} in {two}
        give {o} the same color as {r} in {two}
        change the color of {o} to that of {r} in {two}
        use the color of {r} in {two} for {o}
        color {o} like {r} in {two}
        """,
        """
        {o} should have the color of {r} in {two}
        I want {o} in the color of {r} in {two}
        """,
        """
        make {o} the same color as {r} in {two}
        paint {o} like {r} in {two}
        """,
        """
        I want {o} to have the color of {r} in {two}
        """,
    ),
    "add from": phrasings(
        """
        add {r} from {two} {at}
        put {r} of {two} {at}
        place {r} from {two} {at}
        insert {r} from {two} {at}
        copy {r} from {two} {to}
        take {r} from {two} and put it {at}
        """,
        """
        there should be {r} from {two} {at}
        I want {r} of {two} {at}
        """,
        """
        insert {r} of {two} {at}
        take {r} of {two} and add it {at}
        """,
        """
        {at}, add {r} from {two}
        """,
    ),
    "replace from": phrasings(
        """
        put {r} of {two} in the place of {o}
        put {r} from {two} in place of {o}
        replace {o} with {r} from {two}
        replace {o} by {r} of {two}
        swap {o} for {r} from {two}
        exchange {o} for {r} in {two}
        use {r} from {two} instead of {o}
        turn {o} into {r} of {two}
        """,
        """
        {o} should become {r} of {two}
        I want {r} from {two} instead of {o}
        """,
        """
        swap {o} with {r} of {two}
        put {r} from {two} instead of {o}
        """,
        """
        I want {r} of {two} in place of {o}
        """,
    ),
    "background from": phrasings(
        """
        use the background of {two}
        use the background from {two}
        take the background from {two}
        copy the background of {two}
        change the background to that of {two}
        make the background like in {two}
        replace the background with the background of {two}
        replace the background with that of {two}
        """,
        """
        the background should be that of {two}
        I want the background of {two}
        """,
        """
        swap the background for that of {two}
        take the background of {two}
        """,
        """
        the background should be like in {two}
        """,
    ),
}

FRAMES: Frames = (
    ("please {order}", "."),
    ("{order}, please", "."),
    ("{order} please", "."),
    ("now {order}", "."),
    ("just {order}", "."),
    ("can you {order}", "?"),
    ("can you please {order}", "?"),
    ("could you {order}", "?"),
    ("could you please {order}", "?"),
    ("would you {order}", "?"),
    ("I want you to {order}", "."),
    ("I would like you to {order}", "."),
)
