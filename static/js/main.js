import { charts } from "./charts.js";
import { forms } from "./forms.js";
import { keys } from "./keys.js";
import { live } from "./live.js";
import { origin } from "./origin.js";
import { persons } from "./persons.js";
import { theme } from "./toggle.js";

theme();
keys();
forms();
charts();
origin();
persons();
live();
